"""The 1.7B UNet gives what ModelScope's own and Diffusers' give, on 8 frames of 16×16 latents.

Never two networks in memory: pytest -m full_size -s tests/parity, about 8 GB.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import diffusers_oracle
import modelscope_oracle
import pytest
import torch
from random_weights import build, distance, fill, fill_through_map, random_input, shapes
from torch import Tensor, nn

from t2v_core.models.modelscope.config import UNetConfig
from t2v_core.models.modelscope.unet import UNet3D

pytestmark = [pytest.mark.full_size, pytest.mark.timeout(7200)]

CONFIG = UNetConfig()
LARGEST_ERROR = 1e-5


def run(name: str, make: Callable[[], nn.Module]) -> Tensor:
    """The output of a network that lives only as long as this call."""
    gc.collect()
    network = make()
    latents, text = random_input("latents", 1, 4, 8, 16, 16), random_input("text", 1, 77, CONFIG.context_dim)
    began = time.process_time()
    result = network(latents, torch.tensor([481]), text)
    print(f"\n{name}: {time.process_time() - began:.1f} s of processor time")
    return result if isinstance(result, Tensor) else result.sample


@pytest.fixture(scope="module")
def ours() -> Tensor:
    return run("ours", lambda: fill(build(lambda: UNet3D(CONFIG))))


def test_agrees_with_modelscope(ours: Tensor) -> None:
    found = distance(ours, run("ModelScope", lambda: fill(build(lambda: modelscope_oracle.unet(CONFIG)))))
    print(found)
    assert found.worst <= LARGEST_ERROR


def test_agrees_with_diffusers(ours: Tensor) -> None:
    def theirs() -> nn.Module:
        names, sources = shapes(build(lambda: UNet3D(CONFIG))), diffusers_oracle.unet_sources(CONFIG)
        return fill_through_map(build(lambda: diffusers_oracle.unet(CONFIG)), names, sources)

    found = distance(ours, run("Diffusers", theirs))
    print(found)
    assert found.worst <= LARGEST_ERROR
