"""ModelScope's own network, autoencoder and sampler, loaded from the installed package without the rest of it."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from t2v_core.models.modelscope.config import AutoencoderConfig, UNetConfig

_FOLDER = Path("models/multi_modal/video_synthesis")


@functools.cache
def load(name: str) -> ModuleType:
    """One of the package's files on text to video: "unet_sd", "autoencoder" or "diffusion"; skips where it's missing.

    The package isn't imported: that would need its many dependencies, and these three files need none of it.
    """
    package = importlib.util.find_spec("modelscope")
    if package is None or not package.submodule_search_locations:
        pytest.skip("modelscope isn't installed: pip install --no-deps -r tests/parity/requirements-nodeps.txt")
    path = Path(package.submodule_search_locations[0]) / _FOLDER / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"modelscope_{name}_alone", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def unet(config: UNetConfig) -> nn.Module:
    """The 3D UNet of this size. Its decoder takes text of width 1024 only, and its norms have 32 groups."""
    return load("unet_sd").UNetSD(
        in_dim=config.in_dim,
        dim=config.dim,
        context_dim=config.context_dim,
        out_dim=config.out_dim,
        dim_mult=list(config.dim_mult),
        num_heads=config.num_heads,
        head_dim=config.head_dim,
        num_res_blocks=config.res_blocks,
        attn_scales=list(config.attn_scales),
    )


def autoencoder(config: AutoencoderConfig) -> nn.Module:
    """The autoencoder of this size. Its norms have 32 groups."""
    sizes = {
        "double_z": True,
        "z_channels": config.z_dim,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": config.dim,
        "ch_mult": list(config.dim_mult),
        "num_res_blocks": config.res_blocks,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    return load("autoencoder").AutoencoderKL(sizes, config.z_dim)
