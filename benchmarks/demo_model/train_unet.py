"""Trains the UNet to predict the velocity (arXiv 2202.00512) of noisy latents: small clips first, then large ones."""

from __future__ import annotations

import copy
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.demo_model.clips import Canvas
from benchmarks.demo_model.corpus import Captions, captions, clips
from benchmarks.demo_model.workers import Worker, average_gradients
from t2v_core.models.modelscope.config import NoiseConfig, UNetConfig
from t2v_core.models.modelscope.text_encoder import TextEncoder
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.models.modelscope.vae import Autoencoder

log = logging.getLogger(__name__)

EMPTY = 0.1  # share of clips without a caption, for guidance
EMA_DECAY = 0.998
SAVE_EVERY = 250
CHECKPOINT, START = "unet.pt", "unet-start.pt"


@dataclass(frozen=True, slots=True)
class Stage:
    """One canvas, and how long and how fast to train on it; the rate falls from `peak` to `end` times it.

    Clips and batch are those of all workers together.
    """

    canvas: Canvas
    clips: int
    steps: int
    batch: int
    peak: float
    end: float

    def rate(self, step: int) -> float:
        """The learning rate: a linear start, then half a cosine."""
        fall = self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.peak * min(1.0, (step + 1) / 100) * fall


@dataclass(slots=True)
class Training:
    """What a checkpoint holds: the network, its moving average, the optimizer, and how far they are."""

    network: UNet3D
    average: UNet3D
    optimizer: torch.optim.Optimizer
    stage: int = 0
    step: int = 0

    @classmethod
    def start(cls, config: UNetConfig, *, weights: Path, device: str) -> Training:
        """A new network, or one that begins with the weights of another training, where there are any."""
        network = UNet3D(config).to(device)
        if weights.exists():
            network.load_state_dict(torch.load(weights, weights_only=True))
        optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.99), weight_decay=0.01)
        return cls(network, copy.deepcopy(network).requires_grad_(False), optimizer)

    def save(self, path: Path) -> None:
        """Write to a temporary name, then rename: a stopped run leaves a whole checkpoint."""
        parts: dict[str, Any] = {name: getattr(self, name).state_dict() for name in ("network", "average", "optimizer")}
        torch.save({**parts, "stage": self.stage, "step": self.step}, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def load(self, path: Path) -> None:
        """Go on where a checkpoint stopped."""
        saved = torch.load(path, weights_only=True)
        for name in ("network", "average", "optimizer"):
            getattr(self, name).load_state_dict(saved[name])
        self.stage, self.step = saved["stage"], saved["step"]


def train_unet(
    config: UNetConfig,
    noise: NoiseConfig,
    *,
    tower: TextEncoder,
    vae: Autoencoder,
    stages: tuple[Stage, ...],
    worker: Worker,
) -> None:
    """Go through all stages from the checkpoint on; the last checkpoint's moving average is the result."""
    torch.manual_seed(worker.seed)
    training = Training.start(config, weights=worker.work / START, device=worker.device)
    if (worker.work / CHECKPOINT).exists():
        training.load(worker.work / CHECKPOINT)
    torch.manual_seed(worker.seed + worker.rank + 1000 * (1 + training.step + 100_000 * training.stage))
    words = captions(tower, seed=worker.seed)
    for index, stage in enumerate(stages[training.stage :], start=training.stage):
        if index > training.stage:
            training.stage, training.step = index, 0
        _train_stage(training, stage, noise, words=words, vae=vae, worker=worker)


def _train_stage(
    training: Training, stage: Stage, noise: NoiseConfig, *, words: Captions, vae: Autoencoder, worker: Worker
) -> None:
    count, batch = stage.clips // worker.count, stage.batch // worker.count
    seen = clips(stage.canvas, count=count, vae=vae, seed=worker.seed + worker.rank, folder=worker.work)
    alphas = alphas_cumprod(noise)
    started, losses = time.monotonic(), []
    while training.step < stage.steps:
        for group in training.optimizer.param_groups:
            group["lr"] = stage.rate(training.step)
        rows = torch.randint(len(seen.latents), (batch,))
        text = words.draw(seen.scenes[rows], empty=EMPTY)
        loss = velocity_loss(training.network, seen.latents[rows].float(), text, alphas)
        training.optimizer.zero_grad()
        loss.backward()
        average_gradients(training.network)
        nn.utils.clip_grad_norm_(training.network.parameters(), 1.0)
        training.optimizer.step()
        training.step += 1
        losses.append(loss.item())
        _follow(training.average, training.network, decay=min(EMA_DECAY, training.step / (training.step + 20)))
        if worker.rank > 0:
            continue
        if training.step % 50 == 0 or training.step == stage.steps:
            seconds = (time.monotonic() - started) / len(losses)
            log.info(
                "unet stage %d step %d of %d: loss %.4f, %.2f s a step",
                training.stage, training.step, stage.steps, sum(losses[-50:]) / len(losses[-50:]), seconds,
            )  # fmt: skip
        if training.step % SAVE_EVERY == 0 or training.step == stage.steps:
            training.save(worker.work / CHECKPOINT)


def alphas_cumprod(noise: NoiseConfig) -> Tensor:
    """The share of signal variance left at each timestep, (1000,)."""
    betas = torch.linspace(noise.beta_start**0.5, noise.beta_end**0.5, noise.num_timesteps, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


def velocity_loss(network: UNet3D, latents: Tensor, text: Tensor, alphas: Tensor) -> Tensor:
    """Mean squared error of the predicted velocity at random timesteps, noisy ones a little more often.

    Latents (b, c, f, h, w) and text (b, n, d) may lie elsewhere than the network.
    """
    device = next(network.parameters()).device
    timesteps = (len(alphas) * torch.rand(len(latents)) ** 0.75).long()
    alpha, sigma = (part.sqrt()[:, None, None, None, None] for part in (alphas[timesteps], 1 - alphas[timesteps]))
    eps = torch.randn_like(latents)
    noisy = alpha * latents + sigma * eps
    velocity = alpha * eps - sigma * latents
    return (network(noisy.to(device), timesteps.to(device), text.to(device)) - velocity.to(device)).square().mean()


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, *, decay: float) -> None:
    for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)
