"""The tables of samplers and of schedules: one row an algorithm, its module loaded only when it is used."""

from __future__ import annotations

import enum
import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from t2v_core.fields import closest
from t2v_core.request import problem

if TYPE_CHECKING:
    from t2v_core.sampling.algorithm import Sample

LARGEST_STEPS = 1000


class Terminal(str, enum.Enum):
    """The noise level on which a sampler ends."""

    ZERO = "zero"
    """No noise: alpha 1, sigma 0."""
    FIRST = "first"
    """The training schedule's first level, alphas_cumprod[0], as the reference's DDIM does."""


@dataclass(frozen=True, slots=True)
class Sampler:
    """One row: an algorithm as people choose it.

    `module` has a function `sample` (`algorithm.Sample`). `eta` is the default of those that take one; 0 draws no fresh
    noise. A sampler with levels of its own names the function in its module that makes them in `spacing`, and the
    user's schedule doesn't apply. `distilled` ones need a network distilled for them. `options` are `sample`'s further
    keywords with their values; two rows may share a module and differ in these.
    """

    name: str
    module: str
    help: str
    terminal: Terminal = Terminal.ZERO
    takes_eta: bool = False
    eta: float = 0.0
    spacing: str = ""
    most_steps: int = LARGEST_STEPS
    distilled: bool = False
    options: Mapping[str, float] = field(default_factory=dict)

    def resolve_eta(self, asked: float | None) -> float:
        """The eta to sample with: the one asked for, where this sampler takes it, or else its own."""
        return self.eta if asked is None or not self.takes_eta else asked


@dataclass(frozen=True, slots=True)
class Schedule:
    """One row: a way to spread the steps. `spacing` is a function of the module `schedule`."""

    name: str
    spacing: str
    help: str


SAMPLERS: dict[str, Sampler] = {
    row.name: row
    for row in (
        Sampler(
            "DPM++ 2M",
            "t2v_core.sampling.dpmpp_2m",
            "Second order from the last two estimates: sharp in 20 to 30 steps. Draws no noise.",
        ),
        Sampler(
            "UniPC",
            "t2v_core.sampling.unipc",
            "Predicts each step and corrects the one before at no extra cost: good from 10 steps. Draws no noise.",
        ),
        Sampler(
            "DDIM",
            "t2v_core.sampling.ddim",
            "What ModelScope itself samples with, usually in 50 steps. Eta adds fresh noise.",
            terminal=Terminal.FIRST,
            takes_eta=True,
        ),
        Sampler(
            "Euler",
            "t2v_core.sampling.euler",
            "The plainest: first order, straight lines. Wants more steps than DPM++ 2M. Draws no noise.",
        ),
        Sampler(
            "Euler a",
            "t2v_core.sampling.euler_a",
            "Euler with fresh noise at each step: lively, and another video at another number of steps.",
            takes_eta=True,
            eta=1.0,
        ),
        Sampler(
            "DPM++ 2M SDE",
            "t2v_core.sampling.dpmpp_2m_sde",
            "DPM++ 2M with fresh noise at each step: rich detail from 25 steps. Eta 0 is DPM++ 2M.",
            takes_eta=True,
            eta=1.0,
        ),
        Sampler(
            "LCM",
            "t2v_core.sampling.lcm",
            "1 to 8 steps at CFG scale 1, only with weights or a LoRA distilled for it. Has its own schedule.",
            spacing="spacing",
            most_steps=50,
            distilled=True,
            options={"timestep_scaling": 10.0},
        ),
    )
}
"""Every sampler by the name that people choose."""

SCHEDULES: dict[str, Schedule] = {
    row.name: row
    for row in (
        Schedule("Model", "model_spacing", "The model's own: even steps, the last at its lowest trained noise."),
        Schedule("Karras", "karras_spacing", "More of the steps at low noise (arXiv 2206.00364, rho 7): finer detail."),
        Schedule("Trailing", "trailing_spacing", "Even steps that begin at pure noise: the better one for few steps."),
    )
}
"""Every schedule by the name that people choose."""


def find_sampler(name: str) -> Sampler:
    """The row of a sampler; raises `RequestError` if there is none of that name."""
    if name not in SAMPLERS:
        raise problem("sampler", f"There is no sampler {name!r}. {closest(name, list(SAMPLERS))}")
    return SAMPLERS[name]


def find_schedule(name: str) -> Schedule:
    """The row of a schedule; raises `RequestError` if there is none of that name."""
    if name not in SCHEDULES:
        raise problem("schedule", f"There is no schedule {name!r}. {closest(name, list(SCHEDULES))}")
    return SCHEDULES[name]


def load(sampler: Sampler | str, **options: float) -> Sample:
    """Import a sampler's `sample`, with its row's options or those given in their place.

    Raises:
        RequestError: if there is no sampler of that name.
        TypeError: for an option that the sampler doesn't have.
    """
    row = find_sampler(sampler) if isinstance(sampler, str) else sampler
    unknown = sorted(options.keys() - row.options.keys())
    if unknown:
        raise TypeError(f"{row.name} has no option {', '.join(unknown)}")
    return functools.partial(load_function(row.module, "sample"), **{**row.options, **options})


def load_function(module: str, name: str) -> Callable[..., Any]:
    """Import a function that a row names."""
    return getattr(importlib.import_module(module), name)
