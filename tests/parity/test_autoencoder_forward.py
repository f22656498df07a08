"""Our autoencoder gives what Diffusers' and ModelScope's own give in both directions, with the same weights."""

from __future__ import annotations

import functools
from collections.abc import Callable

import diffusers_oracle
import modelscope_oracle
import pytest
import torch
from random_weights import build, distance, fill, fill_through_map, random_input, shapes
from torch import nn

from t2v_core.models.modelscope.config import AutoencoderConfig
from t2v_core.models.modelscope.vae import Autoencoder

LARGEST_ERROR = 1e-5
PUBLISHED = AutoencoderConfig()
SMALL = AutoencoderConfig(dim=32)
CONFIGS = {
    "published layout": SMALL,
    "two levels, eight latent channels": AutoencoderConfig(dim=32, dim_mult=(1, 3), res_blocks=1, z_dim=8),
}
# ModelScope's norms have 32 groups.
ONLY_DIFFUSERS = {"four groups": AutoencoderConfig(dim=16, dim_mult=(1, 2, 2), norm_groups=4)}
PICTURES = ((1, 32, 32), (2, 24, 40), (1, 64, 16), (3, 37, 22))
LATENTS = ((1, 4, 4), (2, 3, 5), (1, 1, 1), (3, 7, 2))


@functools.cache
def ours(config: AutoencoderConfig) -> Autoencoder:
    network = fill(build(lambda: Autoencoder(config)))
    assert isinstance(network, Autoencoder)
    return network


@functools.cache
def modelscopes(config: AutoencoderConfig) -> nn.Module:
    """The original's names are ours: no map, and strict."""
    return fill(build(lambda: modelscope_oracle.autoencoder(config)))


@functools.cache
def diffusers_(config: AutoencoderConfig) -> nn.Module:
    names = shapes(build(lambda: Autoencoder(config)))
    theirs = build(lambda: diffusers_oracle.autoencoder(config))
    return fill_through_map(theirs, names, diffusers_oracle.autoencoder_sources(config))


def named(configs: dict[str, AutoencoderConfig]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("config", list(configs.values()), ids=list(configs))


def encoding_error(config: AutoencoderConfig, theirs: nn.Module, size: tuple[int, int, int]) -> float:
    """The larger of the mean's and the log variance's."""
    count, height, width = size
    frames = random_input("frames", count, 3, height, width)
    posterior = theirs.encode(frames)
    posterior = getattr(posterior, "latent_dist", posterior)
    mean, log_variance = ours(config).encode(frames)
    return max(distance(mean, posterior.mean).worst, distance(log_variance, posterior.logvar).worst)


def decoding_error(config: AutoencoderConfig, theirs: nn.Module, size: tuple[int, int, int]) -> float:
    count, height, width = size
    latents = random_input("latents", count, config.z_dim, height, width)
    frames = theirs.decode(latents)
    return distance(ours(config).decode(latents), getattr(frames, "sample", frames)).worst


@pytest.mark.parametrize("size", PICTURES, ids=str)
@named(CONFIGS)
def test_encodes_as_modelscope(config: AutoencoderConfig, size: tuple[int, int, int]) -> None:
    assert encoding_error(config, modelscopes(config), size) <= LARGEST_ERROR


@pytest.mark.parametrize("size", PICTURES, ids=str)
@named(CONFIGS | ONLY_DIFFUSERS)
def test_encodes_as_diffusers(config: AutoencoderConfig, size: tuple[int, int, int]) -> None:
    assert encoding_error(config, diffusers_(config), size) <= LARGEST_ERROR


@pytest.mark.parametrize("size", LATENTS, ids=str)
@named(CONFIGS)
def test_decodes_as_modelscope(config: AutoencoderConfig, size: tuple[int, int, int]) -> None:
    assert decoding_error(config, modelscopes(config), size) <= LARGEST_ERROR


@pytest.mark.parametrize("size", LATENTS, ids=str)
@named(CONFIGS | ONLY_DIFFUSERS)
def test_decodes_as_diffusers(config: AutoencoderConfig, size: tuple[int, int, int]) -> None:
    assert decoding_error(config, diffusers_(config), size) <= LARGEST_ERROR


@pytest.fixture
def loud() -> tuple[Autoencoder, nn.Module]:
    """Networks whose log variances run far out of range on both sides: ours, ModelScope's."""
    pair = fill(build(lambda: Autoencoder(SMALL))), fill(build(lambda: modelscope_oracle.autoencoder(SMALL)))
    for network in pair:
        network.quant_conv.weight.mul_(100)  # type: ignore[union-attr, operator]
    return pair  # type: ignore[return-value]


def test_log_variance_is_clamped_as_modelscopes(loud: tuple[Autoencoder, nn.Module]) -> None:
    frames = random_input("frames", 1, 3, 32, 32)
    log_variance, theirs = loud[0].encode(frames)[1], loud[1].encode(frames).logvar
    assert (theirs.min(), theirs.max()) == (-30, 20)
    assert distance(log_variance, theirs).worst <= LARGEST_ERROR


def test_published_size_has_the_published_tensors() -> None:
    sizes = shapes(build(lambda: Autoencoder(PUBLISHED)))
    assert len(sizes) == 248
    assert sum(torch.Size(shape).numel() for shape in sizes.values()) == 83_653_863
    assert sizes == shapes(build(lambda: modelscope_oracle.autoencoder(PUBLISHED)))


@pytest.mark.full_size
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("oracle", [modelscopes, diffusers_])
def test_full_size_agrees_on_a_frame_of_256(oracle: Callable[[AutoencoderConfig], nn.Module]) -> None:
    theirs = oracle(PUBLISHED)
    encoding, decoding = (
        encoding_error(PUBLISHED, theirs, (1, 256, 256)),
        decoding_error(PUBLISHED, theirs, (1, 32, 32)),
    )
    print(f"\n{oracle.__name__}: encode {encoding:.1e}, decode {decoding:.1e}")
    assert max(encoding, decoding) <= LARGEST_ERROR
