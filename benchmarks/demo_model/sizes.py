"""The demo model's sizes: the 1.7B network's architecture, about a three-hundredth of its weights."""

from __future__ import annotations

from t2v_core.models.modelscope.config import (
    AutoencoderConfig,
    FilesConfig,
    ModelConfig,
    NoiseConfig,
    TextConfig,
    UNetConfig,
)
from t2v_core.request import ModelDefaults

DEMO = ModelConfig(
    unet=UNetConfig(
        dim=32,
        dim_mult=(1, 2, 3),
        context_dim=32,
        num_heads=1,
        head_dim=32,
        res_blocks=1,
        attn_scales=(0.5,),
        dropout=0.0,
        norm_groups=4,
    ),
    vae=AutoencoderConfig(dim=16, dim_mult=(1, 2, 3, 3), res_blocks=1, norm_groups=2, scale_factor=1.0),
    text=TextConfig(width=32, layers=3, heads=2),
    # The published schedule leaves so much of small, flat pictures in the last timestep that a network reads colours
    # and motion from it instead of from the text; this one ends in noise alone.
    noise=NoiseConfig(prediction="v", beta_end=0.03),
    files=FilesConfig(
        unet="text2video_pytorch_model.safetensors",
        autoencoder="VQGAN_autoencoder.safetensors",
        text="open_clip_pytorch_model.safetensors",
    ),
    defaults=ModelDefaults(
        steps=16, sampler="DPM++ 2M", schedule="Model", cfg_scale=3.5, width=64, height=64, frames=8, fps=8.0
    ),
)
