"""The fields of a request that say how a long clip is made, and how it's made larger in a second pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from t2v_core.errors import FieldProblem, RequestError
from t2v_core.fields import spec

LENGTH, REFINE = "Length", "Refine"

_FEWEST_IN_COMMON = 3
"""Frames that two windows need in common to go over into one another without a jerk, with the demo model."""


@dataclass(frozen=True, kw_only=True)
class LengthFields:
    """How a clip of more frames than a model knows is made.

    Without slots, so that a request can have several such groups as bases.
    """

    window: int | None = spec(
        None,
        "Window",
        "How many frames are made together. Longer clips are made of overlapping windows, in no more memory; 0 is all "
        "frames at once.",
        infotext="Window",
        minimum=0,
        maximum=4096,
        usual=64,
        step=1,
        group=LENGTH,
        otherwise="all at once up to twice the model's own frames, then the model's own frames",
    )
    window_overlap: int | None = spec(
        None,
        "Window overlap",
        "How many frames a window has in common with the next one: more are smoother and slower.",
        infotext="Window overlap",
        minimum=0,
        maximum=4095,
        usual=32,
        step=1,
        group=LENGTH,
        otherwise="a quarter of the window, 3 at least",
    )
    loop: bool = spec(
        False,
        "Seamless loop",
        "The last frame leads back to the first.",
        infotext="Loop",
        group=LENGTH,
    )
    fill_in: int = spec(
        0,
        "Fill in",
        "Makes few frames first, and then those in between: 1 fills in every second frame, 2 three of four, 3 seven of "
        "eight. For slow, steady motion.",
        infotext="Fill in",
        minimum=0,
        maximum=3,
        step=1,
        group=LENGTH,
    )


@dataclass(frozen=True, kw_only=True)
class RefineFields:
    """The second pass."""

    refine: float = spec(
        0.0,
        "Refine",
        "How many times larger a second pass makes the picture, with new detail; 1 keeps the size, 0 is off.",
        infotext="Refine",
        minimum=0,
        maximum=8,
        usual=4,
        step=0.25,
        group=REFINE,
    )
    refine_strength: float = spec(
        0.4,
        "Refine strength",
        "How much the second pass may change: 0.2 sharpens, 0.6 draws anew.",
        infotext="Refine strength",
        minimum=0,
        maximum=1,
        step=0.05,
        group=REFINE,
    )
    refine_steps: int | None = spec(
        None,
        "Refine steps",
        "Of the second pass' whole schedule; the strength says how many of them are done.",
        infotext="Refine steps",
        minimum=1,
        maximum=1000,
        usual=100,
        step=1,
        group=REFINE,
        otherwise="the first pass'",
    )
    refine_model: str = spec(
        "",
        "Refine model",
        "The second pass' model, such as zeroscope XL. Default: the first pass'.",
        infotext="Refine model",
        group=REFINE,
    )
    tile: int | None = spec(
        None,
        "Tile",
        "Makes larger pictures of overlapping tiles of so many pixels, in less memory; 0 is none.",
        infotext="Tile",
        minimum=0,
        maximum=4096,
        usual=1024,
        step=8,
        multiple=8,
        group=REFINE,
        otherwise="none in the first pass, 512 in the second",
    )


def window_fills(window: int | None, overlap: int | None, *, frames: int, own: int) -> dict[str, Any]:
    """How a clip is cut where that's left open, for a model that knows clips of `own` frames; short ones stay whole.

    Raises:
        RequestError: the windows don't reach each other.
    """
    if window is None and frames > 2 * own:
        window = own
    if not window:
        return {}
    if overlap is None:
        overlap = min(max(window // 4, _FEWEST_IN_COMMON), window - 1)
    if overlap >= window:
        message = f"Windows of {window} frames can't overlap by {overlap}; choose less."
        raise RequestError([FieldProblem("window_overlap", message)])
    return {"window": window, "window_overlap": overlap}


def is_in_pieces(request: Any, *, frames: int, sides: tuple[int, int]) -> bool:
    """Whether the network sees a clip (with `LengthFields`) in pieces, or turned, as a loop is from step to step."""
    return request.loop or 0 < (request.window or 0) < frames or 0 < (request.tile or 0) < max(sides)
