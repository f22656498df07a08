"""Drafts: many seeds in few steps on one sheet, and those that were picked from it in full."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

from t2v_core.finish_fields import CompareFields, FinishFields
from t2v_core.grid import Cell, Sheet
from t2v_core.request import LARGEST_SEED, RANDOM_SEED, GenerationRequest, problem

_NOTHING_OF_IT = {field.name: field.default for field in dataclasses.fields(CompareFields)}
_NOTHING_AFTER = {
    **{field.name: field.default for field in dataclasses.fields(FinishFields) if field.name != "ping_pong"},
    "refine": 0.0,
}
_PICKED = re.compile(r"(\d{1,4})(?:\s*-\s*(\d{1,4}))?")


def drafts_of(request: GenerationRequest, *, steps: int) -> Sheet:
    """The sheet of drafts that a request with a seed asks for, in `steps` steps of each or fewer.

    A draft is the clip itself but for its steps and for what comes after them: seed, size and frames are those of the
    clip that a pick makes, so that both begin with the same noise.
    """
    columns = columns_for(request.drafts)
    rows = -(-request.drafts // columns)
    plain = dataclasses.replace(request, **_NOTHING_OF_IT, **_NOTHING_AFTER, steps=min(steps, request.draft_steps))
    cells = tuple(
        Cell(
            plain.with_field("seed", seed_of(request, number)),
            (0, (number - 1) // columns, (number - 1) % columns),
            f"{number}: seed {seed_of(request, number)}",
        )
        for number in range(1, request.drafts + 1)
    )
    blank = ("",)
    return Sheet(request, cells, blank, blank * rows, blank * columns, kind="drafts", keeps_singles=False)


def picked_of(request: GenerationRequest) -> list[GenerationRequest]:
    """The clips of the drafts that were picked, in full: plain requests, each with the seed of its draft.

    Raises:
        RequestError: what was picked can't be read, isn't among the drafts, or their seed isn't known.
    """
    if not request.drafts:
        raise problem(
            "pick", "There are no drafts to pick from: say how many there were in Drafts, or use their sheet."
        )
    if request.seed == RANDOM_SEED:
        raise problem("seed", "To make picked drafts in full, their seed is needed: use their sheet, or give Seed.")
    plain = dataclasses.replace(request, **_NOTHING_OF_IT)
    return [plain.with_field("seed", seed_of(request, number)) for number in picked(request.pick, among=request.drafts)]


def picked(text: str, *, among: int) -> list[int]:
    """The numbers, from 1 on, that a text such as "3, 7-9" names, each once and in its order.

    Raises:
        RequestError: one isn't a number, or there is no such draft.
    """
    numbers: dict[int, None] = {}
    for part in _parts(text):
        match = _PICKED.fullmatch(part)
        if match is None:
            raise problem("pick", f'Picks are numbers of drafts, as in "3, 7", and {part!r} is none.')
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= min(first, last) <= max(first, last) <= among:
            raise problem("pick", f"There is no draft {part}: they have numbers from 1 to {among}.")
        numbers |= dict.fromkeys(range(first, last + 1) if first <= last else range(first, last - 1, -1))
    return list(numbers)


def seed_of(request: GenerationRequest, number: int) -> int:
    """The seed of the draft of that number, from 1 on."""
    return (request.seed + number - 1) % (LARGEST_SEED + 1)


def columns_for(count: int) -> int:
    """How many drafts stand in a row: as many as rows, or a few more."""
    return max(1, math.isqrt(max(0, count - 1)) + 1)


def _parts(text: str) -> Iterator[str]:
    parts: Sequence[str] = re.split(r"[,;]|(?<![-\s])\s+(?![-\s])", text.strip())
    return (part.strip() for part in parts if part.strip())
