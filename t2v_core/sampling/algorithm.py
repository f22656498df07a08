"""What every sampling algorithm is: a generator of steps over one denoiser signature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from t2v_core.sampling.denoiser import Denoise
from t2v_core.sampling.schedule import Level


@dataclass(frozen=True, slots=True)
class Step:
    """One finished step, counted from 0.

    `latents` (1, c, f, h, w) lie at the next level. `denoised`, of the same shape, is the estimate of the clean latents
    that the step was made from: what to decode if the run stops here.
    """

    index: int
    latents: Tensor
    denoised: Tensor


class Noise(Protocol):
    """Where fresh noise comes from."""

    def draw(self, index: int) -> Tensor:
        """Unit normal noise (1, c, f, h, w); draw 0 is the initial latents, step i (from 0) uses draw i + 1."""
        ...


class Sample(Protocol):
    """`sample` of every algorithm's module.

    `latents` (1, c, f, h, w) are float32 at levels[0]; there is a step from each level to the next. `eta` scales the
    fresh noise of those samplers that take it, the others ignore it. Nothing is kept between runs, and the caller may
    stop at any step.
    """

    def __call__(
        self, denoise: Denoise, latents: Tensor, levels: Sequence[Level], *, noise: Noise, eta: float
    ) -> Iterator[Step]:
        """Yield one `Step` for each pair of neighbouring levels."""
        ...
