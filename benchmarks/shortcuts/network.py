"""The shortcuts on a network of full size with random weights: a whole run of few steps, time and error against exact.

Random weights show no picture, so the error says less than the demo model's; the time is that of a trained network.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.shortcuts.variants import Changes
from t2v_core.models.modelscope.config import UNetConfig
from t2v_core.models.modelscope.packable import pack
from t2v_core.models.modelscope.shortcuts import Shortcuts, shortened
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.request import GenerationRequest, ModelDefaults
from t2v_core.sampling import find_sampler, load
from t2v_core.sampling.denoiser import Prediction
from t2v_core.sampling.guidance import Texts, guided
from t2v_core.sampling.noise import FrameNoise
from t2v_core.sampling.reuse import DeepFeatures
from t2v_core.sampling.schedule import NoiseSchedule, levels
from t2v_core.speed import EXACT

STEPS = 4
"""Too few for a picture, but a step takes the same time in any run; what is reused must divide them."""

TOKENS = 77

DRAWN = 2**20 - 3
"""How many random numbers the weights share: drawing all would take longer than a step; no row is this long."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames and latent height and width."""

    frames: int = 8
    height: int = 16
    width: int = 16


@dataclass(frozen=True, slots=True)
class OnNetwork:
    """One variant: time against exact (median over the rounds), and the relative error of the clean latents."""

    time_ratio: float
    error: float


def random_network(config: UNetConfig, *, dtype: torch.dtype) -> UNet3D:
    """A network with random weights that keep activations at about their size."""
    with torch.device("meta"):
        network = UNet3D(config).to(dtype)
    network = network.to_empty(device="cpu").eval().requires_grad_(False)
    values = torch.randn(DRAWN, generator=torch.Generator().manual_seed(0)).to(dtype)
    for name, weight in network.state_dict().items():
        if weight.ndim == 1:
            weight.fill_(1.0 if name.endswith("weight") else 0.0)
            continue
        for part in weight.view(-1).split(DRAWN):
            part.copy_(values[: len(part)] * weight[0].numel() ** -0.5)
    pack(network)
    return network


@torch.no_grad()
def on_network(
    config: UNetConfig, variants: Mapping[str, Changes], *, clip: Clip, rounds: int, dtype: torch.dtype
) -> dict[str, OnNetwork]:
    """Make the latents of one clip with every variant in turn, `rounds` times after a step that warms up."""
    variants = {
        name: changes for name, changes in variants.items() if STEPS % (changes.get("reuse_features") or 1) == 0
    }
    network = random_network(config, dtype=dtype)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    latents: dict[str, Tensor] = {}
    run = functools.partial(_run, network, clip=clip, dtype=dtype)
    run({}, steps=1)
    for index in range(rounds):
        for name in np.roll(list(variants), index).tolist():
            started = time.process_time()
            latents[name] = run(variants[name])
            seconds[name].append(time.process_time() - started)
    exact = latents[EXACT]
    return {
        name: OnNetwork(
            time_ratio=round(statistics.median(map(float.__truediv__, seconds[name], seconds[EXACT])), 3),
            error=round(float((latents[name] - exact).norm() / exact.norm()), 4),
        )
        for name in variants
    }


def _run(network: UNet3D, changes: Changes, *, clip: Clip, dtype: torch.dtype, steps: int = STEPS) -> Tensor:
    """Clean latents (1, c, f, h, w) of a request with these changes."""
    request = dataclasses.replace(GenerationRequest(**changes).resolve(ModelDefaults()), steps=steps)
    assert request.sampler
    assert request.schedule
    assert request.cfg_scale
    sampler = find_sampler(request.sampler)
    run = levels(request.schedule, steps, NoiseSchedule.linear_sd(), sampler=sampler)
    noise = FrameNoise(1, 4, clip.frames, clip.height, clip.width)
    text = torch.randn(2, TOKENS, network.config.context_dim, generator=torch.Generator().manual_seed(2))
    every, until = request.reuse_features or 1, 1.0 if request.guidance_until is None else request.guidance_until
    deep = DeepFeatures(run, every=every) if every > 1 else None

    def predict(latents: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        return network(latents.to(dtype), timesteps, text.to(dtype)).float()

    denoise = guided(
        predict,
        Prediction.EPS,
        Texts.of(text[:1], text[1:]),
        scale=request.cfg_scale,
        until=run[round(until * steps)] if until < 1 else None,
        announce=deep.announce if deep else None,
    )
    with shortened(network, Shortcuts(deep, request.merge_tokens or 0.0, request.attention_window or 0)):
        *_, last = load(sampler)(denoise, noise.draw(0), run, noise=noise, eta=sampler.eta)
    return last.latents
