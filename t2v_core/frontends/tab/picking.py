"""Where the drafts lie on their sheet, so that a page can let people pick them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from t2v_core.errors import Txt2VideoError
from t2v_core.grid.drafts import drafts_of
from t2v_core.grid.labels import Words
from t2v_core.grid.layout import layout_of
from t2v_core.request import FIELDS, RANDOM_SEED, GenerationRequest, decided


@dataclass(frozen=True, slots=True)
class Pickable:
    """A draft by its number and seed, and its box on the sheet as shares of the sheet's width and height."""

    number: int
    seed: int
    left: float
    top: float
    width: float
    height: float


def pickable_of(recipe: Mapping[str, Any]) -> tuple[Pickable, ...]:
    """The drafts on the sheet that a recipe, by fields, makes; none if it makes no sheet of drafts."""
    values = {name: value for name, value in recipe.items() if name in FIELDS}
    request = dataclasses.replace(GenerationRequest(), **values)
    if not request.drafts or request.pick or request.seed == RANDOM_SEED or None in (request.width, request.height):
        return ()
    return _pickable(request)


@functools.lru_cache(maxsize=32)
def _pickable(request: GenerationRequest) -> tuple[Pickable, ...]:
    sheet = drafts_of(request, steps=request.draft_steps)
    try:
        layout = layout_of(sheet, width=decided(request.width), height=decided(request.height), words=Words())
    except Txt2VideoError:
        return ()
    return tuple(
        Pickable(
            number,
            cell.request.seed,
            layout.corners[cell.place][0] / layout.width,
            layout.corners[cell.place][1] / layout.height,
            layout.cell_width / layout.width,
            layout.cell_height / layout.height,
        )
        for number, cell in enumerate(sheet.cells, start=1)
    )
