"""The fields of a request that say how many files there are to be, of which kind, and with which sound."""

from __future__ import annotations

from dataclasses import dataclass

from t2v_core.fields import spec

GROUP = "Output"
SOUND_FITS = ("cut", "loop")
"""How a sound that is shorter than the clip goes on: with silence, or from its beginning."""

SOURCES_SOUND = "source"
"""What stands in the field `sound` for the sound of the video that a clip starts from."""


@dataclass(frozen=True, kw_only=True)
class OutputFields:
    """What is written.

    Without slots, so that a request can have several such groups as bases.
    """

    count: int = spec(
        1,
        "Clips",
        "How many videos to make, each with the next seed.",
        minimum=1,
        maximum=1000,
        usual=20,
        step=1,
        group=GROUP,
    )
    format: str = spec(
        "mp4",
        "Format",
        'The kind of file, or several kinds with commas between them, as in "mp4, gif": made once, written in each.',
        chosen=True,
        several=True,
        group=GROUP,
    )
    crf: int = spec(
        17,
        "Quality (CRF)",
        "H.264's constant rate factor: 0 is lossless, 17 looks so, 28 is small. Other formats get what looks like it.",
        minimum=0,
        maximum=51,
        step=1,
        group=GROUP,
    )
    preset: str = spec(
        "medium",
        "Encoder preset",
        "Slower presets make smaller files of the same quality.",
        chosen=True,
        group=GROUP,
    )
    loop_count: int = spec(
        0,
        "Loop count",
        "How often a gif, webp or apng is played; 0 is without end.",
        minimum=0,
        maximum=1000,
        usual=10,
        step=1,
        group=GROUP,
    )
    sound: str = spec(
        "",
        "Sound",
        f'The sound of the clip: "{SOURCES_SOUND}" is that of the video it starts from, or the path of a video or '
        "sound file. mp4, webm, avi and mov hold one.",
        infotext="Sound",
        group=GROUP,
    )
    sound_fit: str = spec(
        "cut",
        "Sound fit",
        "A sound that is too long is cut. One that is too short is followed by silence (cut), or begins again (loop).",
        infotext="Sound fit",
        chosen=True,
        group=GROUP,
    )
