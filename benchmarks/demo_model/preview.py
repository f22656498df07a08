"""Fits the linear map that live previews are made with: one cell of latents to the mean colour of its pixels."""

from __future__ import annotations

import copy

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Tensor

from benchmarks.demo_model.clips import SCENES, Canvas, draw
from benchmarks.demo_model.train_autoencoder import to_tensor
from t2v_core.models.modelscope.vae import Autoencoder

SEED = 30
CANVAS = Canvas(frames=1, side=64)
DIGITS = 4  # as many as make no difference to a byte, so that each machine writes the same


@torch.no_grad()
def fit_preview_map(vae: Autoencoder) -> tuple[tuple[float, ...], ...]:
    """The `preview_map` of an autoencoder's configuration, by least squares over a frame of every scene."""
    rng = np.random.default_rng(SEED)
    frames = to_tensor(np.concatenate([draw(scene, CANVAS, rng) for scene in SCENES]))
    # The weights lie in the repository in half precision: those are the ones to fit to.
    latents = copy.deepcopy(vae).half().float().encode(frames)[0] * vae.config.scale_factor
    cells = rearrange(latents, "n z h w -> (n h w) z")
    inputs = torch.cat([cells, torch.ones(len(cells), 1)], dim=1).double()
    colours = rearrange(shrink(frames, vae.config.downsampling), "n c h w -> (n h w) c").double()
    solution = torch.linalg.lstsq(inputs, colours).solution
    return tuple(tuple(round(value, DIGITS) for value in row) for row in solution.tolist())


def shrink(frames: Tensor, factor: int) -> Tensor:
    """Frames (n, c, H, W) to the mean of each `factor` times `factor` pixels, (n, c, H / factor, W / factor)."""
    return reduce(frames, "n c (h dh) (w dw) -> n c h w", "mean", dh=factor, dw=factor)
