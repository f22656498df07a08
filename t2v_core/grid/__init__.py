"""Several clips in one video: which ones, where each stands, and what is written beside it; no torch."""

from __future__ import annotations

from dataclasses import dataclass

from t2v_core.request import GenerationRequest


@dataclass(frozen=True, slots=True)
class Cell:
    """One clip of a sheet: its request, its place (block, row, column), and what stands above it."""

    request: GenerationRequest
    place: tuple[int, int, int]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a grid or a sheet of drafts is to hold.

    `request` is what makes the whole of it again, and stands in its file. Titles are "" where there is none. `kind` is
    a word for the file's name. `keeps_singles` says that each clip is saved as a file of its own, too.
    """

    request: GenerationRequest
    cells: tuple[Cell, ...]
    blocks: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    kind: str
    keeps_singles: bool


MOST_CELLS = 400
"""How many clips one sheet may have."""
