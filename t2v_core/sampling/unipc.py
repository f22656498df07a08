"""UniPC (arXiv 2302.04867), data prediction, with B(h) = e^h - 1 (bh2)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from torch import Tensor

from t2v_core.sampling.algorithm import Noise, Step
from t2v_core.sampling.denoiser import Denoise
from t2v_core.sampling.schedule import Level

Estimates = list[tuple[Level, Tensor]]
"""Estimates of the clean latents with their levels, the newest last."""


def sample(
    denoise: Denoise, latents: Tensor, levels: Sequence[Level], *, noise: Noise, eta: float = 0.0, order: int = 2
) -> Iterator[Step]:
    """Predict each step (UniP), and once the estimate there is known, make the step again with it (UniC).

    The order rises from 1 at the start and falls to 1 at the end. Takes no eta.
    """
    steps = len(levels) - 1
    history: Estimates = []
    before, used = latents, 1
    for index, (here, there) in enumerate(pairwise(levels)):
        denoised = denoise(latents, here)
        if index > 0:
            latents = _move(before, history[-used:], here, corrector=denoised)
        history = [*history, (here, denoised)][-order:]
        before, used = latents, min(order, len(history), steps - index)
        latents = _move(before, history[-used:], there)
        yield Step(index, latents, denoised)


def _move(latents: Tensor, history: Estimates, there: Level, *, corrector: Tensor | None = None) -> Tensor:
    """One step from the newest estimate's level to `there`, of the order of the history's length.

    `latents` lie at the newest estimate's level. With a corrector, the estimate at `there`, the order rises by one.
    """
    (here, denoised), older = history[-1], history[-2::-1]
    width = there.half_log_snr - here.half_log_snr
    ratios = [(level.half_log_snr - here.half_log_snr) / width for level, _ in older]
    slopes = [(estimate - denoised) / ratio for (_, estimate), ratio in zip(older, ratios, strict=True)]
    if corrector is not None:
        ratios.append(1.0)
        slopes.append(corrector - denoised)
    moved = there.sigma / here.sigma * latents - there.alpha * math.expm1(-width) * denoised
    for weight, slope in zip(_weights(ratios, width), slopes, strict=True):
        moved = moved - there.alpha * math.expm1(-width) * weight * slope
    return moved


def _weights(ratios: Sequence[float], width: float) -> list[float]:
    """How much each slope counts: the solution of the paper's order conditions, for data prediction.

    A single slope counts half, which keeps the order and is what the authors' code does.
    """
    if len(ratios) < 2:
        return [0.5] * len(ratios)
    moments, phi, factorial = [], math.expm1(-width) / -width - 1.0, 1
    for power in range(1, len(ratios) + 1):
        moments.append(phi * factorial / math.expm1(-width))
        factorial *= power + 1
        phi = phi / -width - 1.0 / factorial
    conditions = np.vander(ratios, increasing=True).T
    return np.linalg.solve(conditions, np.array(moments)).tolist()
