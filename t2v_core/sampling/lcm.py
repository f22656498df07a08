"""Sampling of latent consistency models (arXiv 2310.04378): for networks distilled to a few steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from t2v_core.sampling.algorithm import Noise, Step
from t2v_core.sampling.denoiser import Denoise
from t2v_core.sampling.schedule import Level, NoiseSchedule

SIGMA_DATA = 0.5


def spacing(steps: int, noise_schedule: NoiseSchedule, *, most_steps: int) -> tuple[Level, ...]:
    """`steps` of the `most_steps` timesteps that such networks are distilled on, 19, 39 ... 999, from the last down."""
    stride = len(noise_schedule) // most_steps
    distilled = [stride * count - 1 for count in range(most_steps, 0, -1)]
    return tuple(noise_schedule.at(distilled[i * most_steps // steps]) for i in range(steps))


def strided_spacing(steps: int, noise_schedule: NoiseSchedule, *, most_steps: int) -> tuple[Level, ...]:
    """`spacing` as T2V-Turbo's authors do it (arXiv 2405.18750): every `most_steps // steps`-th from the last down."""
    stride, kept = len(noise_schedule) // most_steps, most_steps // steps
    return tuple(noise_schedule.at(stride * (most_steps - i * kept) - 1) for i in range(steps))


def sample(
    denoise: Denoise,
    latents: Tensor,
    levels: Sequence[Level],
    *,
    noise: Noise,
    eta: float = 0.0,
    timestep_scaling: float = 10.0,
) -> Iterator[Step]:
    """Each step goes all the way to clean latents, and back up to the next level with fresh noise. Takes no eta.

    `timestep_scaling` is the distillation's (Diffusers' LCM 10, MCM 4); with it the boundary condition mixes the
    latents into the estimate, noticeably only next to timestep 0.
    """
    for index, (here, there) in enumerate(pairwise(levels)):
        scaled = here.timestep * timestep_scaling
        skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
        out = scaled / (scaled**2 + SIGMA_DATA**2) ** 0.5
        denoised = out * denoise(latents, here) + skip * latents
        latents = denoised
        if there.sigma > 0:
            latents = there.alpha * denoised + there.sigma * noise.draw(index + 1).to(latents)
        yield Step(index, latents, denoised)
