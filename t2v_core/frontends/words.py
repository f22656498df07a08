"""Sizes, durations and progress in the words that people read."""

from __future__ import annotations

from t2v_core.rendering.forecast import Forecast
from t2v_core.run import Progress

MUCH = 10**9
"""Bytes that a program around us holds, so that the peak needs a word on them."""


def size(count: int) -> str:
    """Bytes: "3.6 GB", "27 MB"."""
    return f"{count / 1e9:.1f} GB" if count >= 10**8 else f"{count / 1e6:.0f} MB"


def duration(seconds: float) -> str:
    """Seconds: "45 s", "12 min", "1.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def forecast(told: Forecast) -> str:
    """What a request will take, in one sentence."""
    where = f"{told.precision} on {told.device}"
    taken = [] if told.seconds is None else [duration(told.seconds)]
    taken += [] if told.peak is None else [f"{size(told.peak)} of memory at the peak{_held(told)}"]
    text = f"About {' and '.join(taken)} ({where})" if taken else f"Weights: {size(told.weights)} ({where})"
    text += "".join(f", {measure}" for measure in told.measures)
    if told.short_of:
        text += f". That is {size(told.short_of)} more than is free"
    return text if told.seconds is not None else f"{text}. The time is known after a first clip."


def _held(told: Forecast) -> str:
    """How much of the peak is there without us, where people would wonder about it."""
    return f", {size(told.held)} of it without the model" if told.held >= MUCH else ""


def how_far(progress: Progress) -> str:
    """A stage and its units: "Sampling 5/16", "Loading 1.2 GB of 2.8 GB"."""
    if progress.unit == "B":
        return f"{progress.stage.value} {size(progress.done)} of {size(progress.total)}"
    return f"{progress.stage.value} {progress.done}/{progress.total}"
