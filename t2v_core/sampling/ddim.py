"""DDIM (arXiv 2010.02502)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from t2v_core.sampling.algorithm import Noise, Step
from t2v_core.sampling.denoiser import Denoise
from t2v_core.sampling.schedule import Level


def sample(
    denoise: Denoise, latents: Tensor, levels: Sequence[Level], *, noise: Noise, eta: float = 0.0
) -> Iterator[Step]:
    """Eq. 12 with the fresh noise of eq. 16: eta 0 draws none, eta 1 is DDPM's ancestral sampling."""
    for index, (here, there) in enumerate(pairwise(levels)):
        denoised = denoise(latents, here)
        eps = (latents - here.alpha * denoised) / here.sigma
        fresh = eta * _ancestral_deviation(here, there)
        latents = there.alpha * denoised + math.sqrt(there.sigma**2 - fresh**2) * eps
        if fresh > 0:
            latents = latents + fresh * noise.draw(index + 1).to(latents)
        yield Step(index, latents, denoised)


def _ancestral_deviation(here: Level, there: Level) -> float:
    kept = max(0.0, 1.0 - (here.alpha / there.alpha) ** 2)
    return there.sigma / here.sigma * math.sqrt(kept)
