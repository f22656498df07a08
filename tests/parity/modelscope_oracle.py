"""ModelScope's own network, autoencoder and sampler, as the benchmarks load them; skips where they're missing."""

from __future__ import annotations

from types import ModuleType

import pytest
from torch import nn

from benchmarks.compare import modelscope_code
from t2v_core.models.modelscope.config import AutoencoderConfig, UNetConfig


def load(name: str) -> ModuleType:
    """One of the package's files, "unet_sd", "autoencoder" or "diffusion"; skips where it's missing."""
    try:
        return modelscope_code.load_file(name)
    except ImportError:
        pytest.skip("modelscope isn't installed: pip install --no-deps -r tests/parity/requirements-nodeps.txt")


def unet(config: UNetConfig) -> nn.Module:
    """The 3D UNet of this size. Its decoder takes text of width 1024 only, and its norms have 32 groups."""
    load("unet_sd")
    return modelscope_code.build_unet(config)


def autoencoder(config: AutoencoderConfig) -> nn.Module:
    """The autoencoder of this size. Its norms have 32 groups."""
    load("autoencoder")
    return modelscope_code.build_autoencoder(config)
