"""From what is asked to the single clips that are made, and to the sheet that some of them come onto."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from t2v_core.errors import FieldProblem, RequestError
from t2v_core.grid import Sheet
from t2v_core.grid.axes import grid_of
from t2v_core.grid.drafts import drafts_of, picked_of
from t2v_core.request import LARGEST_SEED, RANDOM_SEED, GenerationRequest, decided, problem


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip to be made, resolved, with a seed of its own, and what its infotext says beside its request."""

    request: GenerationRequest
    notes: Mapping[str, str] = field(default_factory=dict)


ClipsOf = Callable[[GenerationRequest], Sequence[Clip]]
"""Checks a request without a sheet and gives its clips; raises `RequestError`."""


@dataclass(frozen=True, slots=True)
class Order:
    """The clips of one request; with a sheet, one for each of its cells."""

    clips: tuple[Clip, ...]
    sheet: Sheet | None = None

    @property
    def keeps_clips(self) -> bool:
        """Whether each clip is saved as a file of its own."""
        return self.sheet is None or self.sheet.keeps_singles


def order_of(request: GenerationRequest, clips_of: ClipsOf) -> Order:
    """What a request makes: clips, a grid of clips, a sheet of drafts, or those that were picked from one.

    A random seed is drawn once: it is the same in every cell of a grid that doesn't go over seeds.

    Raises:
        RequestError: something in it, or in one of its clips, is wrong.
    """
    if request.over and (request.drafts or request.pick):
        raise problem("over", "A grid and a sheet of drafts can't be one video: empty Grid over, or set Drafts to 0.")
    if request.pick:
        return Order(tuple(clip for picked in picked_of(request) for clip in clips_of(picked)))
    if not request.over and not request.drafts:
        return Order(tuple(clips_of(request)))
    if request.count != 1:
        raise problem("count", "A sheet makes one clip a cell: leave Clips at 1.")
    request = with_seed(request)
    recipe = _recipe(request, clips_of)
    sheet = grid_of(request) if request.over else drafts_of(request, steps=decided(recipe.steps))
    clips: list[Clip] = []
    problems: dict[FieldProblem, None] = {}
    for cell in sheet.cells:
        try:
            clips += clips_of(cell.request)
        except RequestError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise RequestError(list(problems))
    return Order(tuple(clips), dataclasses.replace(sheet, request=recipe))


def single_clips(request: GenerationRequest) -> Iterator[GenerationRequest]:
    """A request for each clip, with a seed of its own: the first one's, then one more each time."""
    first = with_seed(request).seed
    for index in range(request.count):
        yield dataclasses.replace(request, seed=(first + index) % (LARGEST_SEED + 1), count=1)


def with_seed(request: GenerationRequest) -> GenerationRequest:
    """The request with a seed that is drawn now if it names none."""
    return request.with_field("seed", secrets.randbelow(LARGEST_SEED + 1)) if request.seed == RANDOM_SEED else request


def _recipe(request: GenerationRequest, clips_of: ClipsOf) -> GenerationRequest:
    """What makes the whole sheet again: the plain clip resolved, and with it what makes it a sheet."""
    (clip,) = clips_of(dataclasses.replace(request, over="", drafts=0))
    kept = ["over", "drafts", "draft_steps"]
    if clip.notes:  # drawn for one seed alone: the sheet is made again of what stood there before
        kept += ["prompt", "negative_prompt", "lora"]
    return dataclasses.replace(clip.request, **{name: getattr(request, name) for name in kept})
