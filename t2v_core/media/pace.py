"""How long each frame of an animated picture is shown, in the whole units of time that its format has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar

Item = TypeVar("Item")


def paced(frames: Iterable[Item], rate: Fraction, *, unit: int, fastest: Fraction) -> Iterator[tuple[Item, int]]:
    """Each frame with its duration in `unit`ths of a second; rounded so that together they last as long as the clip.

    A rate above `fastest`, at which browsers show a picture in slow motion, leaves out frames, so that it lasts as
    long all the same.
    """
    if rate > fastest:
        step = fastest / rate
        frames = (
            frame
            for index, frame in enumerate(frames)
            if index == 0 or math.floor(index * step) > math.floor((index - 1) * step)
        )
        rate = fastest
    for index, frame in enumerate(frames):
        yield frame, round((index + 1) * unit / rate) - round(index * unit / rate)
