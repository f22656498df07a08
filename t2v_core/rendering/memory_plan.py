"""Which measures a run takes: the fastest rung whose predicted peak fits into what is free."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.rendering.devices import kind_of
from t2v_core.rendering.footprint import ClipShape, Footprint
from t2v_core.rendering.measures import AUTO, Measures, find_rung, rungs_for, words

LARGEST_CHUNK = 8
"""More frames at once decode no faster."""

LARGE_TEXT_TOWER = 256 * 2**20
"""On a CPU a text tower of more bytes stays only where that is asked for.

It works for seconds of a run of minutes, and is read again from the system's cache in a fraction of one.
"""

_MARGIN = 1.05
"""Free memory must be this much more than the prediction: a device's memory is torn by what others hold."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What a run is going to do about memory, and the bytes that it is going to take on the device at most."""

    rung: Measures
    decode_chunk: int
    peak: int

    @property
    def measures(self) -> tuple[str, ...]:
        """In words, the rung's own and how frames are decoded; nothing where nothing is saved."""
        return words(self.rung)


def plan_memory(
    footprint: Footprint,
    clip: ClipShape,
    *,
    device: str,
    asked: str = AUTO,
    free: int | None = None,
    loaded: Collection[Part] = tuple(Part),
) -> MemoryPlan:
    """The rung that was asked for, or the fastest one that fits into `free` bytes (None: unknown, so the fastest).

    The parts `loaded` are there before the run.
    """
    rungs = _rungs(footprint, device) if asked == AUTO else (find_rung(asked, device=device),)
    plan = None
    for rung in rungs:
        peak_of = functools.partial(footprint.peak, clip, rung, loaded=loaded)
        plan = _plan(peak_of, clip, rung, device=device, free=free)
        if free is None or plan.peak * _MARGIN <= free:
            break
    assert plan is not None
    return plan


def _rungs(footprint: Footprint, device: str) -> Sequence[Measures]:
    """The rungs that are worth taking, from the fastest on: on a CPU none that keeps a large text tower."""
    rungs = rungs_for(device)
    if kind_of(device) == "cpu" and footprint.weights(Part.TEXT) > LARGE_TEXT_TOWER:
        return [rung for rung in rungs if rung.text_leaves]
    return rungs


def _plan(peak_of: Callable[..., int], clip: ClipShape, rung: Measures, *, device: str, free: int | None) -> MemoryPlan:
    """The plan on one rung, with as many frames decoded at once as don't raise the peak beyond what is free."""
    alone = peak_of(chunk=1)
    # A CPU takes as long for each frame of several as for one alone.
    if rung.halves or kind_of(device) == "cpu":
        return MemoryPlan(rung, 1, alone)
    for chunk in range(min(LARGEST_CHUNK, clip.frames), 1, -1):
        peak = peak_of(chunk=chunk)
        if peak == alone or (free is not None and peak * _MARGIN <= free):
            return MemoryPlan(rung, chunk, peak)
    return MemoryPlan(rung, 1, alone)
