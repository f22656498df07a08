"""What a clip is made from: latents that are known beforehand, and how long each place of them is held.

One rule serves pictures as anchors, a video at some strength and masks alike. A place with hold 0.7 follows the known
latents, noised to each step's level, for the first 70 % of the steps, and is free afterwards (arXiv 2306.00950,
differential diffusion; all places alike, it's arXiv 2108.01073, SDEdit). Steps in which every place would be held
are left out.

Legend: c channels, f frames, h w latent height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from t2v_core.sampling.denoiser import Denoise
from t2v_core.sampling.schedule import Level, step_of


@dataclass(frozen=True, slots=True)
class Known:
    """Clean latents (1, c, f, h, w), and for each place the share of the steps that holds it, (1, 1, f, h, w) in 0..1.

    Where the hold is 0 the latents may be anything.
    """

    latents: Tensor
    hold: Tensor

    def __post_init__(self) -> None:
        if self.hold.shape != (1, 1, *self.latents.shape[2:]):
            raise ValueError(f"latents {tuple(self.latents.shape)} can't be held as {tuple(self.hold.shape)}")

    def first_step(self, steps: int) -> int:
        """The first of `steps` in which some place is free; `steps` if none ever is."""
        least = self.hold.min()
        return next((step for step in range(steps) if not _held(least, step, steps)), steps)

    def start(self, noise: Tensor, level: Level) -> Tensor:
        """Latents to begin with at a level: noise alone in the first step's free places, else the noised known."""
        noised = level.alpha * self.latents + level.sigma * noise
        return torch.where(self.hold > 0, noised, noise)

    def keep(self, latents: Tensor) -> Tensor:
        """Clean latents with those that are held to the end exactly as they were given."""
        return torch.where(self.hold >= 1, self.latents, latents)

    def holding(self, denoise: Denoise, levels: Sequence[Level]) -> Denoise:
        """A denoiser that estimates what is known where it's held at a step of these levels, the run's whole schedule.

        A deterministic sampler then keeps held places exactly on the known latents' way through the noise.
        """
        steps = len(levels) - 1

        def held(latents: Tensor, level: Level) -> Tensor:
            is_held = _held(self.hold, step_of(level, levels), steps)
            return torch.where(is_held, self.latents, denoise(latents, level))

        return held


def _held(hold: Tensor, step: int, steps: int) -> Tensor:
    """Where a step of so many is held."""
    # In float32 0.7 · 10 is a little more than 7.
    return hold * steps > step + 1e-4
