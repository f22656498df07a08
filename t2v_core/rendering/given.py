"""What a clip is made from beside its text: a source, pictures at some of its frames, and where it may change.

Legend: f frames, H W the clip's height and width in pixels.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from t2v_core.media.masks import Edge, StoredMask, as_frames, as_shares, changeable, light_of
from t2v_core.media.pictures import picture_facts, read_marks
from t2v_core.media.source import Wanted, read_source
from t2v_core.media.stored_frames import StoredFrames
from t2v_core.rendering.inputs import Named, anchors_in
from t2v_core.rendering.source_size import facts_of, old_frames
from t2v_core.request import GenerationRequest
from t2v_core.run import Notice, Run, Stage
from t2v_core.video import Frames, FrameSource

_FILM_MARGIN = 2.0
"""Seconds by which the end of a film whose frames weren't counted may be off."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """A picture (H, W, 3) uint8 RGB that stands at `frame`; `strength` from 0 (not at all) to 1 (exactly)."""

    frame: int
    picture: Frames
    strength: float = 1.0


class Mask(Protocol):
    """(1 or f, H, W) float32: 1 where the model may change the clip, 0 where the source stays.

    An array is one; the frames of a mask video needn't all be in memory, so slice it in pieces.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, H, W) for all frames alike, or (f, H, W)."""
        ...

    def __len__(self) -> int:
        """1 or f."""
        ...

    def __getitem__(self, index: slice, /) -> npt.NDArray[np.float32]:
        """Some of them, (n, H, W), in memory."""
        ...


@dataclass(frozen=True, slots=True)
class Given:
    """All of it at the request's size; nothing for a clip that is made from text alone.

    `clip` is exactly as long as the request's clip. `continued` of the anchors, from frame 0 on, are the last frames
    of the clip that is carried on; `before` is all of that clip, where the file is to hold it too.
    """

    clip: FrameSource | None = None
    anchors: tuple[Anchor, ...] = ()
    mask: Mask | None = None
    continued: int = 0
    before: FrameSource | None = None

    def __bool__(self) -> bool:
        return self.clip is not None or bool(self.anchors)


NOTHING = Given()


class StillFrames:
    """One picture (H, W, 3) as a clip of `count` frames that are all alike; what is read is a copy."""

    def __init__(self, picture: Frames, count: int) -> None:
        self._picture, self._count = picture, count

    @property
    def shape(self) -> tuple[int, ...]:
        """(f, H, W, 3)."""
        return (self._count, *self._picture.shape)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: slice, /) -> Frames:
        return np.repeat(self._picture[None], len(range(*index.indices(self._count))), axis=0)


def gather(request: GenerationRequest, run: Run, *, folder: Path | None = None) -> Given:
    """Read what a resolved request names, and no more of it than the clip needs.

    Frames that are many lie in a nameless file on the disk of `folder`, by default the system's temporary one.

    Raises:
        UnreadableFileError: a file that isn't there, or isn't what it should be.
        RequestError: fields that don't fit each other or the files.
        OutputError: the disk is full.
        Cancelled: the user stopped it.
    """
    clip = _clip(request, run, folder) if request.source.strip() else None
    mask = _mask(request, run, folder) if request.mask.strip() and clip is not None else None
    last = _last_frames(request, run) if request.continue_from.strip() else []
    anchors = [Anchor(frame, picture) for frame, picture in enumerate(last)]
    before = _old_clip(request, run, folder) if request.join and last else None
    return Given(clip, (*anchors, *_anchors(request)), mask, continued=len(last), before=before)


def wanted_of(request: GenerationRequest, *, frames: int, start: float = 0.0) -> Wanted:
    """So many frames at the request's rate and size."""
    return Wanted(
        frames=frames,
        fps=request.fps or 1.0,
        width=request.width or 8,
        height=request.height or 8,
        fit=request.fit,
        start=start,
    )


def _clip(request: GenerationRequest, run: Run, folder: Path | None) -> FrameSource:
    named = Named("source", request.source)
    facts, count = facts_of(named), request.frames or 1
    wanted = wanted_of(request, frames=count, start=request.source_start)
    if facts.is_still:
        return StillFrames(_first_picture(named, request), count)
    stored = StoredFrames(folder, height=wanted.height, width=wanted.width)
    for chunk in _tracked(_until(request.source_end, wanted, named), run, total=count):
        stored.append(chunk)
    _hold_last(stored, count, run, name=named.path.name)
    return stored


def _mask(request: GenerationRequest, run: Run, folder: Path | None) -> Mask:
    named = Named("mask", request.mask)
    facts, count = facts_of(named), request.frames or 1
    edge = Edge(request.mask_grow, request.mask_feather, request.mask_keeps)
    wanted = wanted_of(request, frames=count, start=request.source_start)
    if facts.is_still:
        return as_shares(changeable(_marks(named, request)[None], edge))
    stored = StoredFrames(folder, height=wanted.height, width=wanted.width)
    for chunk in _tracked(read_source(named.path, wanted), run, total=count):
        stored.append(as_frames(changeable(light_of(chunk), edge)))
    _hold_last(stored, count, run, name=named.path.name)
    return StoredMask(stored)


def _marks(named: Named, request: GenerationRequest) -> npt.NDArray[np.uint8]:
    """What a picture marks, (H, W)."""
    if not os.path.isdir(named.path) and picture_facts(named.path) is not None:
        return read_marks(named.path, width=request.width or 8, height=request.height or 8, fit=request.fit)
    return light_of(_first_picture(named, request)[None])[0]


def _first_picture(named: Named, request: GenerationRequest) -> Frames:
    """A picture, or the first frame of what moves, (H, W, 3)."""
    return next(iter(read_source(named.path, wanted_of(request, frames=1))))[0]


def _anchors(request: GenerationRequest) -> Iterator[Anchor]:
    frames, fps = request.frames or 1, request.fps or 1.0
    if request.first_frame.strip():
        yield Anchor(0, _first_picture(Named("first_frame", request.first_frame), request))
    for written in anchors_in(request.anchors):
        frame = written.frame(frames=frames, fps=fps)
        yield Anchor(frame, _first_picture(written.named, request), written.strength)
    if request.last_frame.strip():
        yield Anchor(frames - 1, _first_picture(Named("last_frame", request.last_frame), request))


def _last_frames(request: GenerationRequest, run: Run) -> list[Frames]:
    """The last frames of the clip that is carried on, at the request's rate, as many as there are."""
    named = Named("continue_from", request.continue_from)
    facts = facts_of(named)
    if facts.is_still:
        return [_first_picture(named, request)]
    fps = request.fps or 1.0
    count = old_frames(facts, fps)
    margin = 0 if facts.is_counted else round(_FILM_MARGIN * fps)
    first = max(0, count - request.continue_frames - margin)
    wanted = wanted_of(request, frames=count - first + margin, start=first / fps)
    last: deque[Frames] = deque(maxlen=request.continue_frames)
    for chunk in read_source(named.path, wanted):
        run.raise_if_stopped()
        last.extend(chunk)
    return list(last)


def _old_clip(request: GenerationRequest, run: Run, folder: Path | None) -> FrameSource:
    """All of the clip that is carried on, at the request's rate and size."""
    named = Named("continue_from", request.continue_from)
    wanted = wanted_of(request, frames=old_frames(facts_of(named), request.fps or 1.0))
    stored = StoredFrames(folder, height=wanted.height, width=wanted.width)
    for chunk in _tracked(read_source(named.path, wanted), run, total=wanted.frames):
        stored.append(chunk)
    return stored


def _until(end: float, wanted: Wanted, named: Named) -> Iterator[Frames]:
    """The source's wanted frames, none of them from after its wanted end."""
    left = wanted.frames if not end else min(wanted.frames, max(1, round((end - wanted.start) * wanted.fps)))
    for chunk in read_source(named.path, wanted):
        yield chunk[:left]
        left -= len(chunk)
        if left <= 0:
            return


def _tracked(chunks: Iterable[Frames], run: Run, *, total: int) -> Iterator[Frames]:
    for chunk in run.track(chunks, stage=Stage.LOADING, total=total, unit="frame", units=len):
        run.raise_if_stopped()
        yield chunk


def _hold_last(stored: StoredFrames, count: int, run: Run, *, name: str) -> None:
    """Repeat the last frame of what is too short; one frame is a matter of rounding, more are worth a word."""
    there = len(stored)
    if there + 1 < count:
        run.report(Notice(f"{name} has {there} of the {count} frames: its last one is held."))
    last = stored[there - 1 : there]
    for _ in range(count - there):
        stored.append(last)
