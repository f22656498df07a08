"""The published distilled LoRAs' layouts on the 1.7B network, random values: they go in, and come out to the bit.

Takes some minutes: `pytest -m full_size`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from lora_files import random_pair
from safetensors.torch import save_file
from torch import Tensor, nn

from t2v_core.models.catalogue import find_model
from t2v_core.models.loading import load_part
from t2v_core.models.lora.applied import AppliedLoras, Dose
from t2v_core.models.lora.file import Kind, read_lora
from t2v_core.models.lora.places import GUIDANCE, Place, places_of
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.models.modelscope.packable import Packable, pack, unpack

pytestmark = [pytest.mark.full_size, pytest.mark.timeout(1800)]

CONFIG = ModelConfig()
PLACES = places_of(CONFIG).in_order[Part.UNET]


def halves(places: tuple[Place, ...], *, rank: int) -> Iterator[tuple[Place, Tensor, Tensor]]:
    for seed, place in enumerate(places):
        # A projection whose kernel is one element is a matrix to Diffusers, and so to who trained these.
        shape = place.shape[:2] if len(place.shape) == 3 else place.shape
        yield place, *random_pair(shape, rank=rank, seed=seed)


def write_mcm(folder: Path) -> tuple[Path, set[str]]:
    """A PEFT folder of rank 64, without the timestep's layers, the first, the last and those over frames' kernels."""
    others = ("conv_in", "conv_out", "time_embedding.")
    places = tuple(place for place in PLACES if not place.module.startswith(others) and not place.is_over_time)
    tensors = {}
    for place, up, down in halves(places, rank=64):
        tensors[f"base_model.model.{place.module}.lora_A.weight"] = down
        tensors[f"base_model.model.{place.module}.lora_B.weight"] = up
    assert len(tensors) == 964  # as published
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 64, "lora_alpha": 64}))
    return folder / "adapter_model.safetensors", {place.tensor for place in places}


def write_t2v_turbo(folder: Path) -> tuple[Path, set[str]]:
    """A torch file of nameless tensors, up and down of every layer in turn, rank 32."""
    folder.mkdir()
    torch.save([half for _, *pair in halves(PLACES, rank=32) for half in pair], folder / "unet_lora.pt")
    return folder / "unet_lora.pt", {place.tensor for place in PLACES} - {GUIDANCE}


def digests(network: nn.Module) -> dict[str, str]:
    return {
        name: hashlib.blake2b(value.contiguous().view(-1).view(torch.uint8).numpy()).hexdigest()
        for name, value in network.state_dict().items()
    }


@pytest.mark.parametrize(("kind", "write"), [(Kind.MCM, write_mcm), (Kind.T2V_TURBO, write_t2v_turbo)])
def test_published_layouts_go_in_and_come_out_to_the_bit(
    original: Path, tmp_path: Path, kind: Kind, write: Callable[[Path], tuple[Path, set[str]]]
):
    path, tensors = write(tmp_path / "lora")
    lora = read_lora(path, CONFIG)
    assert lora.kind is kind
    model = find_model("t2v", [original / "ModelScope"])
    network = load_part(model, Part.UNET, dtype=torch.bfloat16)
    before = digests(network)
    pack(network)
    applied = AppliedLoras(model)
    applied.wanted = (Dose(lora, 1.0),)
    applied.update(Part.UNET, network)
    unpack(network)
    touched = {name for name, digest in digests(network).items() if digest != before[name]}
    assert touched == tensors
    pack(network)
    applied.wanted = ()
    applied.update(Part.UNET, network)
    unpack(network)
    assert not any(isinstance(layer, Packable) and layer.is_packed for layer in network.modules())
    assert digests(network) == before
