"""Text on a sheet, in any script: wrapped, measured and drawn; what no font here has is shown by its number."""

from __future__ import annotations

import functools
import itertools
import unicodedata
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, features

from t2v_core.grid.fonts import default_font, font_for, is_bitmap

LIGHT, DIM = (235, 235, 235), (120, 120, 120)
SMALLEST, LARGEST = 12, 30
"""Pixels of the letters' size."""

MORE = "…"


@dataclass(frozen=True, slots=True)
class Label:
    """A text in the middle of a box (x, y, width, height), its letters so many pixels large."""

    text: str
    box: tuple[int, int, int, int]
    size: int


class Words:
    """Measures and draws; `missing` are the characters met so far that no font here has."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self._widths: dict[tuple[str, int], float] = {}

    def size_for(self, width: int, height: int) -> int:
        """The size of letters beside cells of this size."""
        return max(SMALLEST, min(LARGEST, min(width, height) // 12))

    def line_height(self, size: int) -> int:
        """Pixels from one line to the next."""
        return size + size // 3

    def width(self, text: str, size: int) -> float:
        """Pixels that a text takes in one line."""
        if (text, size) not in self._widths:
            self._widths[text, size] = sum(_run_width(run, font, size) for run, font in self._runs(text, size))
        return self._widths[text, size]

    def lines(self, text: str, size: int, room: int, *, most: int) -> list[str]:
        """The text in lines of at most `room` pixels, broken between words, in longer ones anywhere; the last cut."""
        found = [""]
        for part in itertools.chain.from_iterable(map(self._breakable, [text.strip()])):
            for piece in self._pieces(part, size, room):
                if self.width((found[-1] + piece).rstrip(), size) <= room or not found[-1]:
                    found[-1] += piece
                else:
                    found.append(piece.lstrip())
        found = [line.strip() for line in found if line.strip()]
        if len(found) > most:
            last = found[most - 1]
            while last and self.width(last + MORE, size) > room:
                last = last[:-1]
            found = [*found[: most - 1], last + MORE]
        return found

    def draw(self, picture: Image.Image, label: Label) -> None:
        """Write a label in the middle of its box."""
        x, y, width, height = label.box
        step = self.line_height(label.size)
        lines = self.lines(label.text, label.size, width, most=max(1, height // step))
        top = y + (height - step * len(lines)) / 2
        draw = ImageDraw.Draw(picture)
        for number, line in enumerate(lines):
            left = x + max(0.0, (width - self.width(line, label.size)) / 2)
            baseline = top + step * number + label.size
            for run, font in self._runs(line, label.size):
                _draw_run(draw, (left, baseline), run, font, label.size)
                left += _run_width(run, font, label.size)

    def _breakable(self, text: str) -> list[str]:
        """Words with the space behind them; lines of the text stay words."""
        return [word + " " for line in text.splitlines() for word in line.split()]

    def _pieces(self, word: str, size: int, room: int) -> list[str]:
        if self.width(word.rstrip(), size) <= room:
            return [word]
        return list(word)

    def _runs(self, text: str, size: int) -> list[tuple[str, Any | None]]:
        """The text in parts of one font each, in the order in which they stand on the line from the left."""
        fonts: list[tuple[str, Any | None]] = []
        for character in "".join(char for char in text if _is_drawn(char)):
            font = font_for(character, size)
            if font is None:
                self.missing.add(character)
            before = fonts[-1][1] if fonts else None
            # A mark belongs to the letter before it, in that letter's font.
            if fonts and font is not None and (font is before or unicodedata.combining(character)):
                fonts[-1] = (fonts[-1][0] + character, before)
            else:
                fonts.append((character, font))
        if not any(_is_from_right(char) for char in text):
            return fonts
        return fonts[::-1] if _is_from_right(next(filter(str.isalpha, text), " ")) else fonts


def _is_drawn(character: str) -> bool:
    """Not what only steers a text: control characters, marks of direction, selectors of variants."""
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs") and not "\ufe00" <= character <= "\ufe0f"


def _is_from_right(character: str) -> bool:
    return unicodedata.bidirectional(character) in ("R", "AL")


@functools.lru_cache(maxsize=1)
def _shapes() -> bool:
    """Whether Pillow's own library for scripts from the right and for joined letters is here."""
    return bool(features.check("raqm"))


def _run_width(run: str, font: Any | None, size: int) -> float:
    return font.getlength(run) if font is not None else size * 1.25 * len(run)


def _draw_run(draw: ImageDraw.ImageDraw, place: tuple[float, float], run: str, font: Any | None, size: int) -> None:
    if font is not None:
        turned = run[::-1] if not _shapes() and any(map(_is_from_right, run)) else run
        if is_bitmap(font):
            draw.text((place[0], place[1] - size), turned, font=font, fill=LIGHT)
        else:
            draw.text(place, turned, font=font, fill=LIGHT, anchor="ls")
        return
    x, baseline = place
    for number, character in enumerate(run):
        _draw_number(draw, x + number * size * 1.25, baseline, character, size)


def _draw_number(draw: ImageDraw.ImageDraw, x: float, baseline: float, character: str, size: int) -> None:
    """A box with the character's number, as browsers show it: not pretty, and not another character."""
    digits = f"{ord(character):04X}"
    rows = digits[: -(-len(digits) // 2)], digits[-(-len(digits) // 2) :]
    draw.rectangle((x, baseline - size, x + size * 1.15, baseline + size * 0.15), outline=DIM)
    small = max(6, round(size * 0.55))
    font = default_font(small)
    for number, row in enumerate(rows):
        place = (x + size * 0.575, baseline - size * 0.5 + number * size * 0.58)
        if not is_bitmap(font):
            draw.text(place, row, font=font, fill=LIGHT, anchor="ms")
