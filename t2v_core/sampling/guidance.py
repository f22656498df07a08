"""Classifier-free guidance (arXiv 2207.12598) around a network, with the rescaling of arXiv 2305.08891.

Shapes: b batch, c channels, f frames, h w latent height and width, n tokens, d features.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import torch
from einops import repeat
from torch import Tensor

from t2v_core.sampling.denoiser import Denoise, Prediction
from t2v_core.sampling.schedule import Level

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A network: latents (b, c, f, h, w), timesteps (b,) and text (b, n, d) to its raw output (b, c, f, h, w).

It's given float32 and casts to what its weights want; the output may have any floating dtype."""


class Half(enum.Enum):
    """The two texts of guidance."""

    UNCOND = enum.auto()
    COND = enum.auto()


Announce = Callable[[Level, tuple[Half, ...]], None]
"""Hears before each call of the network at which level it is, and which texts its batch has, in their order."""


def guided(
    predict: Predict,
    prediction: Prediction,
    cond: Tensor,
    uncond: Tensor | None,
    *,
    scale: float,
    rescale: float = 0.0,
    split: bool | Callable[[], bool] = False,
    until: Level | None = None,
    announce: Announce | None = None,
) -> Denoise:
    """A denoiser that follows `cond` and leaves `uncond`, both text (1, n, d): uncond + scale * (cond - uncond).

    At scale 1 the unconditional half is neither run nor needed. Otherwise both halves run as one batch of two,
    unconditional first, or with `split` one after the other, which takes less memory and may change during a run. From
    the level `until` on, where there is little noise left, the conditional runs alone (arXiv 2404.07724: there guidance
    hardly does anything). `rescale` in 0..1 is the share of the output whose contrast is put back to the conditional's;
    it acts on the network's raw output, as in Diffusers. Timesteps are float32, as they may be fractional. The estimate
    has the latents' dtype and device.

    Raises:
        ValueError: if guidance needs an unconditional text and there is none of the conditional's shape.
    """

    def call(latents: Tensor, level: Level, text: Tensor, *halves: Half) -> Tensor:
        if announce is not None:
            announce(level, halves)
        return predict(latents, _timesteps(latents, level), text)

    if scale == 1:
        return _denoiser(lambda latents, level: call(latents, level, cond, Half.COND), prediction)
    if uncond is None or uncond.shape != cond.shape:
        found = None if uncond is None else tuple(uncond.shape)
        raise ValueError(f"guidance needs two texts of one shape, not {tuple(cond.shape)} and {found}")
    both = torch.cat([uncond, cond])

    def output(latents: Tensor, level: Level) -> Tensor:
        if until is not None and level.sigma <= until.sigma:
            return call(latents, level, cond, Half.COND)
        if split() if callable(split) else split:
            without = call(latents, level, uncond, Half.UNCOND).to(latents.dtype)
            with_text = call(latents, level, cond, Half.COND).to(latents.dtype)
        else:
            twice = repeat(latents, "b c f h w -> (two b) c f h w", two=2)
            outputs = call(twice, level, both, Half.UNCOND, Half.COND).to(latents.dtype)
            without, with_text = outputs.chunk(2)
        combined = without + scale * (with_text - without)
        return _rescaled(combined, with_text, rescale) if rescale else combined

    return _denoiser(output, prediction)


def _denoiser(output: Callable[[Tensor, Level], Tensor], prediction: Prediction) -> Denoise:
    return lambda latents, level: prediction.to_clean(output(latents, level).to(latents.dtype), latents, level)


def _timesteps(latents: Tensor, level: Level) -> Tensor:
    return torch.full((latents.shape[0],), level.timestep, dtype=torch.float32, device=latents.device)


def _rescaled(combined: Tensor, cond: Tensor, share: float) -> Tensor:
    """arXiv 2305.08891, eq. 15 and 16; the deviation is over everything but the batch."""
    dims = list(range(1, cond.ndim))
    # A constant output has no contrast to put back; the floor keeps it from becoming NaN.
    deviation = combined.std(dim=dims, keepdim=True).clamp_min(torch.finfo(combined.dtype).tiny)
    factor = cond.std(dim=dims, keepdim=True) / deviation
    return combined * (share * factor + (1.0 - share))
