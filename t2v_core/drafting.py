"""Drafts for a page: each with a picture that moves, and the request that makes the picked ones in full."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from t2v_core import service
from t2v_core.host import Host
from t2v_core.media.animation import animation
from t2v_core.orders import with_seed
from t2v_core.rendering.renderer import Renderer
from t2v_core.request import GenerationRequest
from t2v_core.run import ClipSaved, DraftMade, Event, Run

PREVIEW_SIDE = 192
"""Pixels of the longer side of a draft's moving picture."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Draft `number` (from 1): the seed of its noise, and a WebP that moves."""

    number: int
    seed: int
    preview: bytes = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True)
class Drafts:
    """What came of making drafts: `request` with its seed drawn, which `picks` needs, and the sheet that was saved.

    After a stop there are fewer drafts than were asked for; a number belongs to the same seed all the same.
    """

    request: GenerationRequest
    drafts: tuple[Draft, ...]
    sheet: ClipSaved


def make_drafts(
    request: GenerationRequest,
    *,
    count: int,
    renderer: Renderer,
    host: Host,
    run: Run,
    folder: Path | None = None,
    place: service.Place | None = None,
) -> Drafts:
    """Make a sheet of `count` drafts of a request; the run reports each as `DraftMade`, too, as soon as it is there.

    Raises:
        Txt2VideoError: as `service.generate`.
    """
    request = with_seed(dataclasses.replace(request, drafts=count, count=1, over="", pick=""))
    drafts: list[Draft] = []
    sheets: list[ClipSaved] = []

    def hear(event: Event) -> None:
        if isinstance(event, DraftMade):
            preview = animation(event.frames, event.fps, format="webp", longest_side=PREVIEW_SIDE)
            drafts.append(Draft(event.number, event.seed, preview))
        elif isinstance(event, ClipSaved):
            sheets.append(event)

    with run.heard_by(hear):
        service.generate([request], renderer=renderer, host=host, run=run, folder=folder, place=place)
    return Drafts(request, tuple(drafts), sheets[-1])


def picks(request: GenerationRequest, numbers: Iterable[int]) -> GenerationRequest:
    """What makes drafts in full, by their numbers; `request` is that of their `Drafts`, or a sheet's own recipe."""
    return dataclasses.replace(request, pick=", ".join(map(str, numbers)), over="", count=1)
