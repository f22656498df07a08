"""Diffusers' UNet and autoencoder of a given size, and where our tensors go in them."""

from __future__ import annotations

import pytest
from random_weights import Sources
from torch import nn

from t2v_core.models.modelscope.checkpoint import Part, spellings
from t2v_core.models.modelscope.config import AutoencoderConfig, ModelConfig, UNetConfig


def unet(config: UNetConfig) -> nn.Module:
    """The 3D UNet of this size. Its first transformer has 8 heads, and its first level the width of its stem."""
    assert config.num_heads == 8
    assert config.dim_mult[0] == 1
    attends = [1 / 2**level in config.attn_scales for level in range(len(config.dim_mult))]
    return pytest.importorskip("diffusers").UNet3DConditionModel(
        in_channels=config.in_dim,
        out_channels=config.out_dim,
        down_block_types=tuple("CrossAttnDownBlock3D" if yes else "DownBlock3D" for yes in attends),
        up_block_types=tuple("CrossAttnUpBlock3D" if yes else "UpBlock3D" for yes in reversed(attends)),
        block_out_channels=tuple(config.dim * mult for mult in config.dim_mult),
        layers_per_block=config.res_blocks,
        norm_num_groups=config.norm_groups,
        cross_attention_dim=config.context_dim,
        attention_head_dim=config.head_dim,
    )


def unet_sources(config: UNetConfig) -> Sources:
    """Our names to those of `unet`."""
    return _sources(Part.UNET, ModelConfig(unet=config))


def autoencoder(config: AutoencoderConfig) -> nn.Module:
    """The autoencoder of this size."""
    levels = len(config.dim_mult)
    return pytest.importorskip("diffusers").AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(config.dim * mult for mult in config.dim_mult),
        layers_per_block=config.res_blocks,
        latent_channels=config.z_dim,
        norm_num_groups=config.norm_groups,
    )


def autoencoder_sources(config: AutoencoderConfig) -> Sources:
    """Our names to those of `autoencoder`."""
    return _sources(Part.AUTOENCODER, ModelConfig(vae=config))


def _sources(part: Part, config: ModelConfig) -> Sources:
    return next(spelling.sources for spelling in spellings(part, config) if spelling.name == "Diffusers")
