"""DPM-Solver++ (2M) for the diffusion SDE (arXiv 2211.01095, appendix; eta as in k-diffusion)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from t2v_core.sampling.algorithm import Noise, Step
from t2v_core.sampling.denoiser import Denoise
from t2v_core.sampling.dpmpp_2m import extrapolated
from t2v_core.sampling.schedule import Level


def sample(
    denoise: Denoise, latents: Tensor, levels: Sequence[Level], *, noise: Noise, eta: float = 1.0
) -> Iterator[Step]:
    """DPM++ 2M with fresh noise: eta 1 follows the reverse SDE, eta 0 is DPM++ 2M."""
    previous: tuple[Level, Tensor] | None = None
    for index, (here, there) in enumerate(pairwise(levels)):
        denoised = denoise(latents, here)
        width = there.half_log_snr - here.half_log_snr
        # 0 * inf at the step to no noise of an eta of 0 would be NaN.
        fresh_width = eta * width if eta > 0 else 0.0
        kept = there.sigma / here.sigma * math.exp(-fresh_width)
        target = extrapolated(denoised, here, previous, width)
        latents = kept * latents - there.alpha * math.expm1(-width - fresh_width) * target
        fresh = there.sigma * math.sqrt(-math.expm1(-2.0 * fresh_width))
        if fresh > 0:
            latents = latents + fresh * noise.draw(index + 1).to(latents)
        previous = here, denoised
        yield Step(index, latents, denoised)
