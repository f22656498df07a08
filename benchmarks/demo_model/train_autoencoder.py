"""Trains the autoencoder on drawn frames, then gives its latents zero mean and unit deviation, channel by channel."""

from __future__ import annotations

import logging

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.demo_model.clips import SCENES, Canvas, draw
from benchmarks.demo_model.workers import Worker, average_gradients
from t2v_core.models.modelscope.config import AutoencoderConfig
from t2v_core.models.modelscope.vae import Autoencoder

log = logging.getLogger(__name__)

PEAK_RATE = 1.5e-3
# Steps, then picture sides with frames a batch, in turn: colours are learnt on small cuttings, for little.
PHASES: tuple[tuple[int, tuple[tuple[int, int], ...]], ...] = (
    (1500, ((32, 24),)),
    (700, ((64, 24), (64, 24), (128, 6))),
)
KL_WEIGHT = 1e-5


def train_autoencoder(config: AutoencoderConfig, *, worker: Worker) -> Autoencoder:
    """A trained autoencoder whose latents need no further scale (`scale_factor` 1)."""
    torch.manual_seed(worker.seed)
    rng = np.random.default_rng(worker.seed + worker.rank)
    model = Autoencoder(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _initialize(model, z_dim=config.z_dim)
    batches = [sides[step % len(sides)] for steps, sides in PHASES for step in range(steps)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=len(batches), pct_start=0.1)
    errors: list[float] = []
    for step, (side, count) in enumerate(batches, start=1):
        frames = _frames(rng, side, count // worker.count)
        mean, log_variance = model.encode(frames)
        error = model.decode(mean + (0.5 * log_variance).exp() * torch.randn_like(mean)) - frames
        fit = error.abs().mean() + 2 * error.square().mean()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        optimizer.zero_grad()
        (fit + KL_WEIGHT * kl).backward()
        average_gradients(model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        errors.append(error.abs().mean().item())
        if step % 100 == 0:
            log.info("autoencoder step %d of %d: mean error %.4f", step, len(batches), sum(errors[-100:]) / 100)
    model.eval().requires_grad_(False)
    standardize(model, torch.cat([model.encode(_frames(rng, 128, 16))[0] for _ in range(16)]))
    return model


def to_tensor(frames: NDArray[np.uint8]) -> Tensor:
    """RGB frames (n, H, W, 3) to (n, 3, H, W) in -1..1."""
    return rearrange(torch.from_numpy(frames), "n h w c -> n c h w").float() / 127.5 - 1


def standardize(model: Autoencoder, latents: Tensor) -> None:
    """Fold the mean and deviation per channel of latents (n, z, h, w) into the 1×1 convolutions around them."""
    mean, deviation = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    after, before = model.quant_conv, model.post_quant_conv
    assert after.bias is not None
    assert before.bias is not None
    z = len(mean)
    before.bias += (before.weight[:, :, 0, 0] * mean).sum(dim=1)
    before.weight *= deviation[None, :, None, None]
    after.weight[:z] /= deviation[:, None, None, None]
    after.bias[:z] = (after.bias[:z] - mean) / deviation
    after.bias[z:] -= 2 * deviation.log()


@torch.no_grad()
def _initialize(model: Autoencoder, *, z_dim: int) -> None:
    """Convolutions keep their input's size, and latents start clear of noise: both save hundreds of steps."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    model.quant_conv.weight[z_dim:] *= 0.1
    model.quant_conv.bias[z_dim:] = -6.0  # type: ignore[index]


def _frames(rng: np.random.Generator, side: int, count: int) -> Tensor:
    """Frames of random scenes, or cuttings of them where the side is too small for a shape."""
    whole = max(side, 64)
    drawn = [draw(SCENES[rng.integers(len(SCENES))], Canvas(frames=1, side=whole), rng) for _ in range(count)]
    top, left = rng.integers(0, whole - side + 1, 2)
    return to_tensor(np.concatenate(drawn)[:, top : top + side, left : left + side])
