"""Euler with ancestral noise: Euler's method down to less noise than asked, and fresh noise up to it again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from t2v_core.sampling.algorithm import Noise, Step
from t2v_core.sampling.denoiser import Denoise
from t2v_core.sampling.schedule import Level


def sample(
    denoise: Denoise, latents: Tensor, levels: Sequence[Level], *, noise: Noise, eta: float = 1.0
) -> Iterator[Step]:
    """One ancestral step for each pair of levels; eta scales the fresh noise, and 0 is plain Euler."""
    for index, (here, there) in enumerate(pairwise(levels)):
        denoised = denoise(latents, here)
        eps = (latents - here.alpha * denoised) / here.sigma
        down, up = _split(here.exploding_sigma, there.exploding_sigma, eta)
        latents = there.alpha * denoised + there.alpha * down * eps
        if up > 0:
            latents = latents + there.alpha * up * noise.draw(index + 1).to(latents)
        yield Step(index, latents, denoised)


def _split(here: float, there: float, eta: float) -> tuple[float, float]:
    """The next exploding sigma as its part from the line, and its fresh part; the squares add up (DDPM's posterior)."""
    up = min(there, eta * there * math.sqrt(max(0.0, 1.0 - (there / here) ** 2)))
    return math.sqrt(there**2 - up**2), up
