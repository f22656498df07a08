"""Our 3D UNet gives what ModelScope's own and Diffusers' give, with the same weights.

Weights are random: ModelScope initialises the end of every residual branch with zeros, which would hide those branches.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import diffusers_oracle
import modelscope_oracle
import pytest
import torch
from random_weights import build, distance, fill, fill_through_map, random_input, shapes
from torch import Tensor, nn

from t2v_core.models.modelscope.config import UNetConfig
from t2v_core.models.modelscope.unet import UNet3D, timestep_embedding

FP32, FP64 = 1e-5, 1e-12
FRAMES = (1, 3, 8, 17)
TOKENS = 9

# ModelScope's code has the text's width of 1024 in its decoder and 32 groups in its norms; Diffusers' has 8 heads in
# its first transformer.
CONFIGS = {
    "published layout": UNetConfig(dim=32, num_heads=8, head_dim=16),
    "attention everywhere": UNetConfig(
        dim=32, dim_mult=(1, 3), num_heads=8, head_dim=8, res_blocks=1, attn_scales=(1.0, 0.5)
    ),
    "attention in the middle": UNetConfig(
        dim=32, dim_mult=(1, 3, 2), num_heads=8, head_dim=32, res_blocks=3, attn_scales=(0.5,)
    ),
}
ONLY_MODELSCOPE = {"three heads first": UNetConfig(dim=32, dim_mult=(2, 1), num_heads=3, head_dim=32, res_blocks=1)}
ONLY_DIFFUSERS = {
    "4 groups, narrow text": UNetConfig(dim=32, dim_mult=(1, 2, 3), context_dim=24, head_dim=8, norm_groups=4)
}


@dataclass(frozen=True)
class Clip:
    """The size of one call."""

    batch: int
    frames: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.batch}x{self.frames}x{self.height}x{self.width}"

    def inputs(self, config: UNetConfig, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, timesteps (another for each clip of the batch), text."""
        latents = random_input("latents", self.batch, config.in_dim, self.frames, self.height, self.width, dtype=dtype)
        timesteps = torch.tensor([981, 1, 500, 0, 999][: self.batch])
        return latents, timesteps, random_input("text", self.batch, TOKENS, config.context_dim, dtype=dtype)


HALVING = tuple(
    Clip(batch, frames, height, width)
    for (batch, height, width), frames in zip(((1, 40, 8), (2, 8, 24), (3, 16, 8), (1, 8, 8)), FRAMES, strict=True)
)
NOT_HALVING = tuple(
    Clip(batch, frames, height, width)
    for (batch, height, width), frames in zip(((2, 9, 16), (2, 5, 7), (1, 12, 12), (1, 3, 6)), FRAMES, strict=True)
)
NARROW = (Clip(1, 3, 1, 13), Clip(1, 2, 11, 1))


@functools.cache
def ours(config: UNetConfig, dtype: torch.dtype = torch.float32) -> nn.Module:
    return fill(build(lambda: UNet3D(config)), dtype=dtype)


@functools.cache
def modelscopes(config: UNetConfig, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The original's names are ours: no map, and strict."""
    return fill(build(lambda: modelscope_oracle.unet(config)), dtype=dtype)


@functools.cache
def diffusers_(config: UNetConfig, dtype: torch.dtype = torch.float32) -> nn.Module:
    names = shapes(build(lambda: UNet3D(config)))
    theirs = build(lambda: diffusers_oracle.unet(config))
    return fill_through_map(theirs, names, diffusers_oracle.unet_sources(config), dtype=dtype)


def named(configs: dict[str, UNetConfig]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("config", list(configs.values()), ids=list(configs))


@pytest.mark.parametrize("clip", HALVING, ids=str)
@named(CONFIGS | ONLY_MODELSCOPE)
def test_agrees_with_modelscope(config: UNetConfig, clip: Clip) -> None:
    inputs = clip.inputs(config)
    assert distance(ours(config)(*inputs), modelscopes(config)(*inputs)).worst <= FP32


@pytest.mark.parametrize("clip", HALVING[1:2] + NOT_HALVING + NARROW, ids=str)
@named(CONFIGS | ONLY_DIFFUSERS)
def test_agrees_with_diffusers_at_any_size(config: UNetConfig, clip: Clip) -> None:
    inputs = clip.inputs(config)
    assert distance(ours(config)(*inputs), diffusers_(config)(*inputs).sample).worst <= FP32


@pytest.mark.parametrize("frames", FRAMES)
@named(ONLY_DIFFUSERS)
def test_agrees_with_diffusers_on_a_single_place(config: UNetConfig, frames: int) -> None:
    """Not with as many norm groups as channels: a frame's group then holds one number, and its norm means nothing."""
    inputs = Clip(1, frames, 1, 1).inputs(config)
    assert distance(ours(config)(*inputs), diffusers_(config)(*inputs).sample).worst <= FP32


def test_agrees_in_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """All with our sinusoids: each computes its own in single precision, and their last bits would be all we saw."""
    config = CONFIGS["published layout"]
    inputs = Clip(2, 3, 8, 8).inputs(config, dtype=torch.float64)
    result = ours(config, torch.float64)(*inputs)

    def sinusoids(timesteps: Tensor, dim: int = config.dim) -> Tensor:
        return timestep_embedding(timesteps, dim).double()

    monkeypatch.setattr(modelscope_oracle.load("unet_sd"), "sinusoidal_embedding", sinusoids)
    assert distance(result, modelscopes(config, torch.float64)(*inputs)).worst <= FP64
    other = diffusers_(config, torch.float64)
    monkeypatch.setattr(other.time_proj, "forward", sinusoids)
    assert distance(result, other(*inputs).sample).worst <= FP64


def test_clips_of_a_batch_do_not_see_each_other() -> None:
    config = CONFIGS["published layout"]
    together = Clip(3, 3, 8, 8).inputs(config)
    result = ours(config)(*together)
    for index in range(3):
        alone = ours(config)(*(part[index : index + 1] for part in together))
        assert distance(result[index : index + 1], alone).worst <= FP32


def test_every_weight_reaches_the_output() -> None:
    """Otherwise the comparisons above would say nothing about it."""
    config = CONFIGS["published layout"]
    network = fill(build(lambda: UNet3D(config))).requires_grad_(True)
    result = network(*Clip(1, 3, 16, 16).inputs(config))
    (result * random_input("direction", *result.shape)).sum().backward()
    silent = [name for name, weight in network.named_parameters() if weight.grad is None or weight.grad.norm() < 1e-6]
    assert not silent


def test_published_size_has_the_published_tensors() -> None:
    sizes = shapes(build(lambda: UNet3D(UNetConfig())))
    assert len(sizes) == 1_480
    assert sum(torch.Size(shape).numel() for shape in sizes.values()) == 1_411_233_860


def test_published_names_and_shapes_are_modelscopes() -> None:
    config = UNetConfig()
    assert shapes(build(lambda: UNet3D(config))) == shapes(build(lambda: modelscope_oracle.unet(config)))


def test_key_map_reaches_each_of_diffusers_published_tensors_once() -> None:
    config = UNetConfig()
    ours_ = shapes(build(lambda: UNet3D(config)))
    mapped = {diffusers_oracle.unet_sources(config)(name): shape for name, shape in ours_.items()}
    theirs = {(name,): shape for name, shape in shapes(build(lambda: diffusers_oracle.unet(config))).items()}
    assert mapped.keys() == theirs.keys()
    assert len(mapped) == len(ours_)
    # The projections of the temporal transformers are convolutions of kernel 1 with us, and matrices there.
    reshaped = {names[0] for names, shape in mapped.items() if shape != theirs[names]}
    assert all(".temp_attentions." in name or name.startswith("transformer_in.") for name in reshaped)
    assert all(name.endswith(("proj_in.weight", "proj_out.weight")) for name in reshaped)
    assert all(mapped[(name,)] == (*theirs[(name,)], 1) for name in reshaped)
