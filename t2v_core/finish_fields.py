"""The fields of a request that say what becomes of the finished frames, and which clips are made to be compared."""

from __future__ import annotations

from dataclasses import dataclass

from t2v_core.fields import spec

FINISH, COMPARE = "Finish", "Compare"


@dataclass(frozen=True, kw_only=True)
class FinishFields:
    """What is done to the frames that the model made.

    Without slots, so that a request can have several such groups as bases.
    """

    upscale: float = spec(
        1.0,
        "Upscale",
        "Makes the finished frames so many times as wide and high, without a second pass of the model; 1 is off.",
        infotext="Upscale",
        minimum=1,
        maximum=8,
        usual=4,
        step=0.25,
        group=FINISH,
        off=1,
    )
    upscaler: str = spec(
        "lanczos",
        "Upscaler",
        "What makes frames larger: lanczos, or one of the WebUI's upscalers by its name.",
        infotext="Upscaler",
        group=FINISH,
    )
    ping_pong: bool = spec(
        False,
        "Ping-pong",
        "The clip once forwards and once backwards, so that it can be repeated without a jump.",
        infotext="Ping-pong",
        group=FINISH,
    )
    output_fps: float | None = spec(
        None,
        "Output frames per second",
        "The file's own rate, as 30: frames in between are made, and the clip lasts as long as before.",
        infotext="Output FPS",
        minimum=1,
        maximum=240,
        usual=60,
        step=1,
        group=FINISH,
        otherwise="the clip's own",
    )
    interpolation: str = spec(
        "motion",
        "Interpolation",
        "How frames in between are made. motion: things are moved along their way. blend: pictures fade into each "
        "other. repeat: none is new. Across a cut nothing is mixed.",
        infotext="Interpolation",
        chosen=True,
        group=FINISH,
    )


@dataclass(frozen=True, kw_only=True)
class CompareFields:
    """Several clips at once, beside each other in one video."""

    over: str = spec(
        "",
        "Grid over",
        'Makes a clip for every combination of some fields\' values, and a grid of them all: "steps=10,25; seed=1-3" '
        "has two columns and three rows.",
        infotext="Grid over",
        group=COMPARE,
    )
    drafts: int = spec(
        0,
        "Drafts",
        "Makes one sheet of so many seeds in few steps, to pick from; 0 is off.",
        infotext="Drafts",
        minimum=0,
        maximum=100,
        usual=25,
        step=1,
        group=COMPARE,
        off=0,
    )
    draft_steps: int = spec(
        8,
        "Draft steps",
        "How many steps a draft takes.",
        infotext="Draft steps",
        minimum=1,
        maximum=100,
        usual=25,
        step=1,
        group=COMPARE,
    )
    pick: str = spec(
        "",
        "Pick",
        'Which of the drafts to make in full, by their numbers on the sheet, as in "3, 7".',
        group=COMPARE,
    )
