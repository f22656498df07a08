"""Noise levels: the training schedule, and the ways to spread a run's steps over it; float64, without torch.

Latents are variance preserving, x = alpha * x0 + sigma * eps with alpha^2 + sigma^2 = 1 and alpha^2 = alphas_cumprod.
The variance-exploding noise level of the same latents (arXiv 2206.00364) is sigma / alpha.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from t2v_core.request import problem
from t2v_core.sampling import Sampler, Terminal, find_schedule, load_function
from t2v_core.sampling.betas import Floats, alphas_cumprod, one_of

KARRAS_RHO = 7.0


@dataclass(frozen=True, slots=True)
class Level:
    """One noise level: the network's timestep (fractional between trained ones), and x = alpha * x0 + sigma * eps."""

    timestep: float
    alpha: float
    sigma: float

    @classmethod
    def from_alpha_cumprod(cls, timestep: float, alpha_cumprod: float) -> Level:
        """The level with alpha^2 = alpha_cumprod."""
        return cls(float(timestep), math.sqrt(alpha_cumprod), math.sqrt(1.0 - alpha_cumprod))

    @classmethod
    def from_exploding_sigma(cls, timestep: float, exploding_sigma: float) -> Level:
        """The level with sigma / alpha = exploding_sigma."""
        alpha = 1.0 / math.hypot(1.0, exploding_sigma)
        return cls(float(timestep), alpha, exploding_sigma * alpha)

    @property
    def exploding_sigma(self) -> float:
        """Noise over signal: sigma in variance-exploding terms."""
        return self.sigma / self.alpha

    @property
    def half_log_snr(self) -> float:
        """The lambda of the DPM-Solver papers, log(alpha / sigma); infinite without noise."""
        return math.log(self.alpha / self.sigma) if self.sigma > 0 else math.inf


NO_NOISE = Level(0.0, 1.0, 0.0)


def step_of(level: Level, levels: Sequence[Level]) -> int:
    """Which step of a run a noise level belongs to, from 0: a counter would be lost by a run that is taken up again.

    A sampler may ask at levels between those of the run's steps.
    """
    return sum(other.sigma > level.sigma for other in levels)


@dataclass(frozen=True, slots=True)
class NoiseSchedule:
    """The levels that a network was trained on: alphas_cumprod by timestep, falling, within 0 and 1.

    `trailing` says that the model's own way to spread steps begins at the last timestep, as networks with zero terminal
    SNR need (arXiv 2305.08891, section 3.3). `len` is the number of timesteps.
    """

    alphas_cumprod: tuple[float, ...]
    trailing: bool = False

    def __post_init__(self) -> None:
        values = np.asarray(self.alphas_cumprod, dtype=np.float64)
        within = values.ndim == 1 and len(values) > 0 and values[-1] > 0 and values[0] < 1
        if not within or not (np.diff(values) < 0).all():
            raise ValueError("alphas_cumprod must fall from below 1 to above 0")
        object.__setattr__(self, "alphas_cumprod", tuple(values.tolist()))

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    @classmethod
    def linear_sd(cls) -> NoiseSchedule:
        """The 1.7B model's: betas = linspace(sqrt(0.00085), sqrt(0.012), 1000)^2."""
        return cls.from_config({})

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoiseSchedule:
        """Read the keys of a Diffusers scheduler_config.json; those that are missing are the 1.7B model's.

        They are beta_schedule, beta_start, beta_end, trained_betas, num_train_timesteps (or num_timesteps),
        rescale_betas_zero_snr and timestep_spacing. The last counts only where it is "trailing", which belongs to a
        network's training; the others are choices of inference, and steps_offset is always 1, the reference's.

        Raises:
            WeightsError: for a value that is unknown or of the wrong kind; names the key.
        """
        spacing = one_of(config, "timestep_spacing", ("leading", "trailing", "linspace"))
        return cls(tuple(alphas_cumprod(config).tolist()), trailing=spacing == "trailing")

    @property
    def exploding_sigmas(self) -> Floats:
        """The variance-exploding sigma of each timestep, rising."""
        signal = np.asarray(self.alphas_cumprod)
        return np.sqrt((1.0 - signal) / signal)

    def at(self, timestep: float) -> Level:
        """The level of a timestep; between trained timesteps log(sigma / alpha) is interpolated.

        Raises:
            ValueError: outside of the trained timesteps.
        """
        if not 0 <= timestep <= len(self) - 1:
            raise ValueError(f"timesteps are 0 to {len(self) - 1}, not {timestep}")
        if float(timestep).is_integer():
            return Level.from_alpha_cumprod(timestep, self.alphas_cumprod[int(timestep)])
        log_sigma = np.interp(timestep, np.arange(len(self)), np.log(self.exploding_sigmas))
        return Level.from_exploding_sigma(timestep, math.exp(log_sigma))

    def at_exploding_sigma(self, exploding_sigma: float) -> Level:
        """The level of a variance-exploding sigma, its timestep interpolated in log sigma; `at`'s inverse."""
        timestep = np.interp(math.log(exploding_sigma), np.log(self.exploding_sigmas), np.arange(len(self)))
        return Level.from_exploding_sigma(float(timestep), exploding_sigma)


def levels(name: str, steps: int, noise_schedule: NoiseSchedule, *, sampler: Sampler) -> tuple[Level, ...]:
    """The noise levels of a run: one for each step, from most noise to least, then the sampler's terminal level.

    `name` is a row of `SCHEDULES`; samplers with levels of their own don't use it.

    Raises:
        RequestError: for an unknown schedule, or a number of steps that the sampler or the model doesn't have.
    """
    schedule = find_schedule(name)
    most = min(sampler.most_steps, len(noise_schedule))
    if not 1 <= steps <= most:
        raise problem("steps", f"Steps must be 1 to {most} with the sampler {sampler.name}, not {steps}.")
    if sampler.spacing:
        spacing = load_function(sampler.module, sampler.spacing)
        run = spacing(steps, noise_schedule, most_steps=most)
    else:
        run = load_function(__name__, schedule.spacing)(steps, noise_schedule)
    return (*run, _terminal(sampler.terminal, run[-1], noise_schedule))


def model_spacing(steps: int, noise_schedule: NoiseSchedule) -> tuple[Level, ...]:
    """The reference's timesteps, 1 + i * (1000 // steps), where steps divides 1000.

    For other counts the reference takes more steps than it was asked for (31 for 30). Here they are spread evenly over
    the same range instead, 1 + floor(i * 1000 / steps): rounding the stride down would leave out the noisiest levels
    (600 steps would begin at timestep 600). At 1000 steps, where the reference takes timestep 999 twice, it's every
    timestep from 999 to 0. A single step is at timestep 1, as in the reference: `Trailing` is the one for few steps.
    """
    if noise_schedule.trailing:
        return trailing_spacing(steps, noise_schedule)
    trained = len(noise_schedule)
    offset = 0 if steps == trained else 1
    return tuple(noise_schedule.at(offset + i * trained // steps) for i in reversed(range(steps)))


def trailing_spacing(steps: int, noise_schedule: NoiseSchedule) -> tuple[Level, ...]:
    """Even steps counted from the last timestep: round(1000 - i * 1000 / steps) - 1 (arXiv 2305.08891, table 2)."""
    trained = len(noise_schedule)
    # Some of these lie exactly between two timesteps (at 48 steps, say); what arange's own rounding makes of them is
    # what other programs sample with. It can run one too far.
    points = np.arange(trained, 0, -trained / steps)[:steps]
    return tuple(noise_schedule.at(timestep) for timestep in (np.round(points) - 1).tolist())


def karras_spacing(steps: int, noise_schedule: NoiseSchedule) -> tuple[Level, ...]:
    """Sigmas even in sigma^(1/7) over the model's range (arXiv 2206.00364, eq. 5); a single step is at the highest."""
    sigmas = noise_schedule.exploding_sigmas
    low, high = sigmas[0] ** (1 / KARRAS_RHO), sigmas[-1] ** (1 / KARRAS_RHO)
    return tuple(noise_schedule.at_exploding_sigma(root**KARRAS_RHO) for root in np.linspace(high, low, steps).tolist())


def _terminal(kind: Terminal, last: Level, noise_schedule: NoiseSchedule) -> Level:
    """Where a run ends; a run whose last step is at the first trained level already goes on to no noise."""
    first = noise_schedule.at(0)
    below_last = first.sigma < last.sigma and not math.isclose(first.sigma, last.sigma)
    return first if kind is Terminal.FIRST and below_last else NO_NOISE
