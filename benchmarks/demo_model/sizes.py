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
    noise=NoiseConfig(prediction="v"),
    files=FilesConfig(
        unet="text2video_pytorch_model.safetensors",
        autoencoder="VQGAN_autoencoder.safetensors",
        text="open_clip_pytorch_model.safetensors",
    ),
)
