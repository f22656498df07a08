"""Writes trained networks as a model folder: configuration.json and three safetensors files in half precision."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.demo_model.preview import fit_preview_map
from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.models.modelscope.vae import Autoencoder

PREFIX = "first_stage_model."
LARGEST = 12_000_000  # bytes that all weights may take in the repository


def export(config: ModelConfig, *, unet: nn.Module, vae: Autoencoder, tower: nn.Module, folder: Path) -> None:
    """Write the folder; keys are the published checkpoints', and the map for previews is fitted to this autoencoder.

    Raises:
        ValueError: if the weights are larger than the repository wants.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files, written = config.files, 0
    for name, network, prefix in ((files.unet, unet, ""), (files.autoencoder, vae, PREFIX), (files.text, tower, "")):
        tensors = {prefix + key: value.to(torch.float16).contiguous() for key, value in network.state_dict().items()}
        save_file(tensors, folder / name)
        (folder / name).chmod(0o644)  # it writes files that nobody else may read
        written += (folder / name).stat().st_size
    config = dataclasses.replace(config, vae=dataclasses.replace(config.vae, preview_map=fit_preview_map(vae)))
    (folder / "configuration.json").write_text(json.dumps(config.to_dict(), indent=4) + "\n", encoding="utf-8")
    if written > LARGEST:
        raise ValueError(f"{folder}: the weights take {written:,} bytes, more than {LARGEST:,}")


def restore(config: ModelConfig, folder: Path, *, unet: Path, vae: Path, tower: Path) -> None:
    """The other way round: write a folder's weights where training looks for its own, unless something is there."""
    files = config.files
    for name, path, prefix in ((files.unet, unet, ""), (files.autoencoder, vae, PREFIX), (files.text, tower, "")):
        if not path.exists():
            tensors = load_file(folder / name)
            torch.save({key.removeprefix(prefix): value.float() for key, value in tensors.items()}, path)
