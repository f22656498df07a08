"""DPM-Solver++ (2M) (arXiv 2211.01095, algorithm 2)."""

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
    """Second order from the estimates of two steps; the first step, and one to no noise, are first order.

    Takes no eta.
    """
    previous: tuple[Level, Tensor] | None = None
    for index, (here, there) in enumerate(pairwise(levels)):
        denoised = denoise(latents, here)
        width = there.half_log_snr - here.half_log_snr
        target = extrapolated(denoised, here, previous, width)
        latents = there.sigma / here.sigma * latents - there.alpha * math.expm1(-width) * target
        previous = here, denoised
        yield Step(index, latents, denoised)


def extrapolated(denoised: Tensor, here: Level, previous: tuple[Level, Tensor] | None, width: float) -> Tensor:
    """The estimate at the middle of a step of this width in half log SNR, on the line through the last two."""
    if previous is None or math.isinf(width):
        return denoised
    level, estimate = previous
    slope = width / (2.0 * (here.half_log_snr - level.half_log_snr))
    return denoised + slope * (denoised - estimate)
