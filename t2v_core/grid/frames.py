"""A sheet's own frames: its clips at their places, all playing in step, made when they are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from PIL import Image

from t2v_core.grid.labels import Words
from t2v_core.grid.layout import Layout
from t2v_core.video import Frames, FrameSource, MadeFrames

GROUND, EMPTY = (24, 24, 24), (44, 44, 44)
FASTEST = 60
"""Frames a second at most, where clips of several rates play in step."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One clip on a sheet, at its cell's size."""

    frames: FrameSource
    fps: Fraction


class SheetFrames(MadeFrames):
    """Frames (f, h, w, 3) of a sheet: each clip at the picture that it shows at that time, the last one to the end.

    Places without a clip stay empty. Nothing is held but the ground.
    """

    def __init__(self, layout: Layout, clips: Mapping[tuple[int, int, int], Shown], *, words: Words) -> None:
        self._layout, self._clips = layout, dict(clips)
        self.fps = common_rate([clip.fps for clip in clips.values()])
        seconds = max((len(clip.frames) / clip.fps for clip in clips.values()), default=Fraction(1))
        super().__init__(max(1, math.ceil(seconds * self.fps)), height=layout.height, width=layout.width)
        self._ground = _ground(layout, words)

    def made(self, number: int) -> Frames:
        """Frame `number`, (h, w, 3)."""
        picture = self._ground.copy()
        for corner, clip in self._clips.items():
            self._paste(picture, corner, clip, number / self.fps)
        return picture

    def _paste(self, picture: Frames, place: tuple[int, int, int], clip: Shown, time: Fraction) -> None:
        number = min(int(time * clip.fps), len(clip.frames) - 1)
        frame = clip.frames[number : number + 1][0]
        x, y = self._layout.corners[place]
        height, width = frame.shape[:2]
        x += (self._layout.cell_width - width) // 2
        y += (self._layout.cell_height - height) // 2
        picture[y : y + height, x : x + width] = frame


def common_rate(rates: list[Fraction]) -> Fraction:
    """Frames a second at which every clip shows each frame at its time, or the fastest's if that is too many."""
    if not rates:
        return Fraction(1)
    numerator = math.lcm(*(rate.numerator for rate in rates))
    common = Fraction(numerator, math.gcd(*(rate.denominator for rate in rates)))
    return common if common <= FASTEST or common in rates else max(rates)


def fitted(frame: Frames, layout: Layout, *, scale: float) -> Frames:
    """A frame (h, w, 3) at the layout's scale, never larger than a cell."""
    height, width = frame.shape[:2]
    size = (
        max(1, min(layout.cell_width, round(width * scale))),
        max(1, min(layout.cell_height, round(height * scale))),
    )
    if size == (width, height):
        return frame
    whole = scale > 1 and float(scale).is_integer()
    how = Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS  # small clips stay as sharp as they are
    return np.asarray(Image.fromarray(np.ascontiguousarray(frame)).resize(size, how))


def _ground(layout: Layout, words: Words) -> Frames:
    picture = Image.new("RGB", (layout.width, layout.height), GROUND)
    for x, y in layout.corners.values():
        picture.paste(EMPTY, (x, y, x + layout.cell_width, y + layout.cell_height))
    for label in layout.labels:
        words.draw(picture, label)
    return np.asarray(picture)
