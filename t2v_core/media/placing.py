"""How a picture of any shape comes to a clip's size: cropped, between bars, or stretched."""

from __future__ import annotations

from dataclasses import dataclass

CROP, PAD, STRETCH = "crop", "pad", "stretch"


@dataclass(frozen=True, slots=True)
class Placing:
    """Scale to `width` by `height`, then cut off, or put bars around, what makes it `into_width` by `into_height`.

    `left` and `top` say how many pixels are cut off there, or below 0, how wide the bars are.
    """

    width: int
    height: int
    into_width: int
    into_height: int

    @property
    def left(self) -> int:
        """Half of what is too wide; the odd pixel on the right."""
        return _half(self.width - self.into_width)

    @property
    def top(self) -> int:
        """Half of what is too high; the odd pixel at the bottom."""
        return _half(self.height - self.into_height)


def place(width: int, height: int, *, into: tuple[int, int], fit: str) -> Placing:
    """How a picture of that size comes to the size `into` (width, height); what fits already isn't scaled at all."""
    wide, high = into
    if fit == STRETCH:
        return Placing(wide, high, wide, high)
    across, down = wide * height, high * width
    if fit == CROP:
        scaled = (
            (wide, _at_least(wide * height, width, high)) if across >= down else (_at_least(down, height, wide), high)
        )
    else:
        scaled = (wide, _at_most(across, width, high)) if across <= down else (_at_most(down, height, wide), high)
    return Placing(*scaled, wide, high)


def _half(excess: int) -> int:
    return excess // 2 if excess >= 0 else -(-excess // 2)


def _at_least(over: int, under: int, least: int) -> int:
    return max(least, (over + under // 2) // under)


def _at_most(over: int, under: int, most: int) -> int:
    return max(1, min(most, (over + under // 2) // under))
