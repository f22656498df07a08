"""Euler's method on the probability flow of arXiv 2206.00364, as "Euler" is known in the Stable Diffusion world."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from t2v_core.sampling.algorithm import Noise, Step
from t2v_core.sampling.denoiser import Denoise
from t2v_core.sampling.schedule import Level


def sample(
    denoise: Denoise, latents: Tensor, levels: Sequence[Level], *, noise: Noise, eta: float = 0.0
) -> Iterator[Step]:
    """A straight line in variance-exploding terms, which in ours moves x0 and eps to the next level unchanged.

    This form never divides latents by a small alpha, which would cost digits at zero terminal SNR. Takes no eta.
    """
    for index, (here, there) in enumerate(pairwise(levels)):
        denoised = denoise(latents, here)
        eps = (latents - here.alpha * denoised) / here.sigma
        latents = there.alpha * denoised + there.sigma * eps
        yield Step(index, latents, denoised)
