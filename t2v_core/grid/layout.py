"""Where everything on a sheet lies, in pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from t2v_core.errors import OutputError
from t2v_core.grid import Sheet
from t2v_core.grid.labels import Label, Words

LONGEST_SIDE = 4096
"""Pixels of a sheet's longer side at most: what every player of H.264 takes."""

SMALLEST_CELL, READABLE_CELL = 24, 128
"""Pixels of a cell's longer side: fewer show nothing, and cells with fewer than the second are enlarged to it."""

GAP = 4
LINES = 4
"""Lines of a title at most; the rest of it stands in the recipe."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Size of the sheet and of a cell, the upper left corner of every place, and the titles' boxes."""

    width: int
    height: int
    cell_width: int
    cell_height: int
    corners: dict[tuple[int, int, int], tuple[int, int]]
    labels: tuple[Label, ...]


def layout_of(sheet: Sheet, *, width: int, height: int, words: Words) -> Layout:
    """The layout for clips of at most this size, scaled so that the whole fits into `LONGEST_SIDE`.

    Raises:
        OutputError: there are so many that nothing would be seen of them.
    """
    enlarged = max(1, READABLE_CELL // max(width, height))
    scale = float(enlarged)
    while True:
        found = _laid_out(sheet, round(width * scale), round(height * scale), words)
        if max(found.width, found.height) <= LONGEST_SIDE:
            return found
        scale *= 0.93
        if max(width, height) * scale < SMALLEST_CELL:
            raise OutputError(
                f"A {sheet.kind} of {len(sheet.cells)} clips has no room in one video.", remedy="Choose fewer values."
            )


def _laid_out(sheet: Sheet, cell_width: int, cell_height: int, words: Words) -> Layout:
    size = words.size_for(cell_width, cell_height)
    line = words.line_height(size)

    def lines(titles: Sequence[str], room: int) -> int:
        return max(len(words.lines(title, size, room, most=LINES)) if title else 0 for title in titles)

    side = 0
    if any(sheet.rows):
        widest = max(words.width(title, size) for title in sheet.rows)
        side = GAP + min(math.ceil(widest), max(cell_width, 6 * size))
    top = lines(sheet.columns, cell_width) * line
    caption = lines([cell.caption for cell in sheet.cells], cell_width) * line
    columns, rows = len(sheet.columns), len(sheet.rows)
    block_width = side + columns * (cell_width + GAP) + GAP
    heading = lines(sheet.blocks, block_width) * line
    block_height = heading + top + rows * (cell_height + caption + GAP) + GAP
    across = _across(len(sheet.blocks), block_width, block_height)
    down = -(-len(sheet.blocks) // across)

    corners, labels = {}, []
    for block, title in enumerate(sheet.blocks):
        x, y = block % across * block_width, block // across * block_height
        labels.append(Label(title, (x + GAP, y, block_width - 2 * GAP, heading), size))
        for column, text in enumerate(sheet.columns):
            box = (x + side + GAP + column * (cell_width + GAP), y + heading, cell_width, top)
            labels.append(Label(text, box, size))
        for row, text in enumerate(sheet.rows):
            start = y + heading + top + row * (cell_height + caption + GAP)
            labels.append(Label(text, (x + GAP, start + caption, side - GAP, cell_height), size))
            for column in range(columns):
                corners[block, row, column] = (x + side + GAP + column * (cell_width + GAP), start + caption)
    for cell in sheet.cells:
        x, y = corners[cell.place]
        labels.append(Label(cell.caption, (x, y - caption, cell_width, caption), size))
    shown = tuple(label for label in labels if label.text)
    # Even, which every encoder takes.
    width, height = across * block_width, down * block_height
    return Layout(width + width % 2, height + height % 2, cell_width, cell_height, corners, shown)


def _across(blocks: int, width: int, height: int) -> int:
    """How many blocks stand beside each other, so that the whole comes near a screen's shape."""

    def shape(across: int) -> float:
        return abs(math.log(across * width / (-(-blocks // across) * height) / (16 / 9)))

    return min(range(1, blocks + 1), key=shape)
