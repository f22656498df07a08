"""What every contender can be asked: a pass of the UNet, frames of latents, a whole clip, and to load its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.compare.sizes import Size
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.sampling.noise import FrameNoise

Weights = Mapping[Part, dict[str, Tensor]]
"""Tensors under our names, which are the original's, part by part."""

Work = Callable[[], Tensor]
"""One go of what has been made ready, as often as it's called: what a clip does once lies behind it."""

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Clip:
    """A whole clip, the same for everybody: prompt, noise, sampler and number of steps."""

    size: Size
    steps: int
    sampler: str
    cfg_scale: float = 2.0
    prompt: str = "a red ball moving left on a black background"
    negative_prompt: str = "text, watermark"
    seed: int = 1

    def noise(self) -> Tensor:
        """(1, c, f, h, w), what our sampler begins with at this seed."""
        _, channels, frames, height, width = self.size.latents
        return FrameNoise(self.seed, channels=channels, frames=frames, height=height, width=width).draw(0)


@dataclass(frozen=True, slots=True)
class Stages:
    """How long a clip took in all, and its two long parts; `frames` are (f, H, W, 3) in 0..1."""

    seconds: float
    sampling: float
    decoding: float
    frames: npt.NDArray[np.float32]


class FallbackError(Exception):
    """A contender didn't do what its name says, but something else in its place."""


class Contender(Protocol):
    """One implementation on one device in one number format."""

    name: str

    def said(self) -> list[str]:
        """What its user was told since the last call, and would have to know of its figures.

        Raises:
            FallbackError: they are not of what its name says.
        """
        ...

    def take(self, weights: Weights) -> None:
        """Use these tensors, which other contenders may use as well."""
        ...

    def load(self) -> None:
        """Load all parts from the files, as its users do."""
        ...

    def stepper(self, latents: Tensor, timesteps: Tensor, text: Tensor) -> Work:
        """One pass of the UNet: (b, c, f, h, w), (b,), (b, n, d), float32 on the CPU, to the prediction.

        Of one clip's latents and two texts it is a step with guidance, as this contender takes it, to two predictions.
        The next `stepper`, `decoder`, `generate` or `load` ends it.
        """
        ...

    def decoder(self, latents: Tensor) -> Work:
        """Scaled latents (f, c, h, w), float32 on the CPU, to pictures (f, 3, H, W) in 0..1; ends as `stepper` does."""
        ...

    def generate(self, clip: Clip) -> Stages:
        """Text, steps with guidance, and decoding."""
        ...


def synchronize(device: str) -> None:
    """Wait until a device has done what it was given, so that a clock says something."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
