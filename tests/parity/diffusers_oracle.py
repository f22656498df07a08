"""Diffusers' UNet and autoencoder of a given size, and where our tensors go in them."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
from random_weights import Sources
from torch import nn

from t2v_core.models.modelscope.checkpoint import Part, spellings
from t2v_core.models.modelscope.config import AutoencoderConfig, ModelConfig, UNetConfig


def unet(config: UNetConfig) -> nn.Module:
    """The 3D UNet of this size. Its first transformer has 8 heads, and its first level the width of its stem."""
    assert config.num_heads == 8
    assert config.dim_mult[0] == 1
    return _code().build_unet(ModelConfig(unet=config))


def unet_sources(config: UNetConfig) -> Sources:
    """Our names to those of `unet`."""
    return _sources(Part.UNET, ModelConfig(unet=config))


def autoencoder(config: AutoencoderConfig) -> nn.Module:
    """The autoencoder of this size."""
    return _code().build_autoencoder(ModelConfig(vae=config))


def autoencoder_sources(config: AutoencoderConfig) -> Sources:
    """Our names to those of `autoencoder`."""
    return _sources(Part.AUTOENCODER, ModelConfig(vae=config))


def _sources(part: Part, config: ModelConfig) -> Sources:
    return next(spelling.sources for spelling in spellings(part, config) if spelling.name == "Diffusers")


def _code() -> ModuleType:
    """How the benchmarks build them, which needs both packages."""
    for package in ("diffusers", "transformers"):
        pytest.importorskip(package)
    return importlib.import_module("benchmarks.compare.diffusers_code")
