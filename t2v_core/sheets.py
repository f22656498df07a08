"""Making a sheet while its clips are made: each is kept at its cell's size, and put in its place in the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from t2v_core.grid.frames import EMPTY, SheetFrames, Shown, fitted
from t2v_core.grid.labels import Words
from t2v_core.grid.layout import Layout, layout_of
from t2v_core.media.stored_frames import StoredFrames, in_chunks
from t2v_core.orders import Order
from t2v_core.postprocess import Footage
from t2v_core.postprocess.upscale import upscaled_size
from t2v_core.request import GenerationRequest, decided
from t2v_core.run import Notice, Run
from t2v_core.video import Frames, Video


class SheetMaker:
    """Takes the clips of an order with a sheet as they come; `whole` gives the sheet of what has come."""

    def __init__(self, order: Order, *, folder: Path, run: Run) -> None:
        assert order.sheet is not None
        self._sheet, self._run = order.sheet, run
        self._words = Words()
        width, height = largest_size([clip.request for clip in order.clips])
        self._layout = layout_for(order, words=self._words)
        self._scale = min(self._layout.cell_width / width, self._layout.cell_height / height)
        self._store = StoredFrames(folder, height=self._layout.cell_height, width=self._layout.cell_width)
        self._shown: dict[tuple[int, int, int], Shown] = {}
        self._last: Video | None = None
        self.has_partial = False

    @property
    def made(self) -> int:
        """How many clips have come."""
        return len(self._shown)

    def add(self, index: int, video: Video, footage: Footage) -> None:
        """Take the clip of one of the cells, by the number of the cell."""
        cell, start = self._sheet.cells[index], len(self._store)
        for chunk in in_chunks(footage.frames):
            self._store.append(np.stack([_framed(frame, self._layout, scale=self._scale) for frame in chunk]))
        part = Part(self._store, start, len(self._store))
        self._shown[cell.place] = Shown(part, footage.fps)
        self._last = video
        self.has_partial = self.has_partial or video.partial

    def whole(self) -> tuple[Video, Footage]:
        """The sheet as a video whose request makes it again, and its frames; `made` must not be 0."""
        assert self._last is not None
        frames = SheetFrames(self._layout, self._shown, words=self._words)
        if self._words.missing:
            some = "".join(sorted(self._words.missing)[:20])
            self._run.report(
                Notice(
                    f"No font on this machine has {some}: the labels show the characters' numbers instead. Install a "
                    "font with them, as Noto Sans."
                )
            )
        cells = len(self._sheet.cells)
        notes = {"Clips on the sheet": f"{self.made} of {cells}"} if self.made < cells else {}
        last = self._last
        video = Video(frames, self._sheet.request, last.model, last.steps_done, notes=notes, versions=last.versions)
        return video, Footage(frames, frames.fps)

    @property
    def is_partial(self) -> bool:
        """Whether a clip is missing or was stopped before its end."""
        return self.has_partial or self.made < len(self._sheet.cells)

    @property
    def kind(self) -> str:
        """A word for the file's name."""
        return self._sheet.kind

    def close(self) -> None:
        """Give the frames back."""
        self._store.close()


class Part:
    """Some frames of a source, (f, h, w, 3)."""

    def __init__(self, source: StoredFrames, start: int, stop: int) -> None:
        self._source, self._start, self._count = source, start, stop - start

    @property
    def shape(self) -> tuple[int, ...]:
        """(f, h, w, 3)."""
        return (self._count, *self._source.shape[1:])

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: slice, /) -> Frames:
        start, stop, step = index.indices(self._count)
        return self._source[self._start + start : self._start + max(start, stop) : step]


def layout_for(order: Order, *, words: Words) -> Layout:
    """The layout of an order's sheet.

    Raises:
        OutputError: it has too many clips to be seen in one video.
    """
    assert order.sheet is not None
    width, height = largest_size([clip.request for clip in order.clips])
    return layout_of(order.sheet, width=width, height=height, words=words)


def largest_size(clips: Sequence[GenerationRequest]) -> tuple[int, int]:
    """The width and the height in which every one of these clips has room, as it will be when it's finished."""
    sizes = [
        upscaled_size(decided(clip.width), decided(clip.height), factor=clip.upscale * (clip.refine or 1))
        for clip in clips
    ]
    return max(width for width, _ in sizes), max(height for _, height in sizes)


def _framed(frame: Frames, layout: Layout, *, scale: float) -> Frames:
    """A frame in the middle of its cell."""
    picture = fitted(frame, layout, scale=scale)
    height, width = picture.shape[:2]
    if (height, width) == (layout.cell_height, layout.cell_width):
        return picture
    cell = np.empty((layout.cell_height, layout.cell_width, 3), np.uint8)
    cell[:] = EMPTY
    y, x = (layout.cell_height - height) // 2, (layout.cell_width - width) // 2
    cell[y : y + height, x : x + width] = picture
    return cell
