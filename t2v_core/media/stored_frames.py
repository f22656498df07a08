"""Frames that come chunk by chunk and needn't fit into memory: beyond a few they lie in a file that has no name."""

from __future__ import annotations

import tempfile
import threading
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from t2v_core.media.problems import output_error
from t2v_core.video import Frames, FrameSource

IN_MEMORY = 64 * 2**20
"""Bytes of frames that are kept in memory; all 24 frames of a clip of 576 by 320 pixels take a fifth of it."""


class StoredFrames:
    """A `FrameSource` that is appended to; any thread may append and read, also while others do.

    Frames lie in memory up to `memory` bytes, then all of them in a nameless file on the disk of `folder` (the output
    folder: it has room for videos, and the system's own temporary folder may be memory). The file is gone when this is
    closed or forgotten, or when the process ends in whatever way. What is read is a copy, the reader's own.
    """

    def __init__(self, folder: Path | None, *, height: int, width: int, memory: int = IN_MEMORY) -> None:
        self._folder, self._memory = folder, memory
        self._frame = (height, width, 3)
        self._frame_bytes = height * width * 3
        self._count = 0
        self._kept: list[Frames] = []  # one array a frame, until they lie in the file
        self._file: Any = None
        self._closed = False
        self._lock = threading.RLock()

    @property
    def shape(self) -> tuple[int, ...]:
        """(f, h, w, 3), of what has been appended so far."""
        return (self._count, *self._frame)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: slice, /) -> Frames:
        if not isinstance(index, slice):
            raise TypeError(f"stored frames are read in slices, not by {index!r}")
        with self._lock:
            self._check_open()
            wanted = range(*index.indices(self._count))
            frames = np.empty((len(wanted), *self._frame), np.uint8)
            if self._file is None:
                for place, number in enumerate(wanted):
                    frames[place] = self._kept[number]
            elif wanted.step == 1 and wanted:
                self._read(frames, wanted.start)
            else:
                for place, number in enumerate(wanted):
                    self._read(frames[place], number)
            return frames

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """All of them at once: for tests, and for who knows that they are few."""
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def append(self, chunk: Frames) -> None:
        """Add frames (n, h, w, 3) uint8 RGB behind the others.

        Raises:
            OutputError: the disk is full, or the folder can't be written to; what was there before stays readable.
            ValueError: frames of another size.
        """
        if chunk.ndim != 4 or chunk.shape[1:] != self._frame or chunk.dtype != np.uint8:
            height, width, _ = self._frame
            raise ValueError(f"frames are (f, {height}, {width}, 3) uint8 here, not {chunk.shape} {chunk.dtype}")
        with self._lock:
            self._check_open()
            if self._file is None and (self._count + len(chunk)) * self._frame_bytes <= self._memory:
                self._kept += [frame.copy() for frame in chunk]
            else:
                try:
                    self._store(chunk)
                except OSError as error:
                    raise output_error(error, self._folder or Path(tempfile.gettempdir())) from error
            self._count += len(chunk)

    def close(self) -> None:
        """Let go of the memory and of the disk; closing twice does nothing."""
        with self._lock:
            self._closed = True
            self._kept = []
            if self._file is not None:
                self._file.close()

    def __enter__(self) -> StoredFrames:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("these frames were given back")

    def _store(self, chunk: Frames) -> None:
        """Write frames to the file; the first time, those in memory before them."""
        # Unbuffered: what a full disk refuses must not be tried again when the file is closed.
        file = self._file or tempfile.TemporaryFile(dir=self._folder, prefix=".txt2video-", buffering=0)  # noqa: SIM115
        try:
            for number, frame in enumerate([*self._kept, *chunk], start=self._count - len(self._kept)):
                _write(file, np.ascontiguousarray(frame), number * self._frame_bytes)
        except OSError:
            if self._file is None:
                file.close()
            raise
        if self._file is None:
            self._file, self._kept = file, []
            weakref.finalize(self, file.close)

    def _read(self, into: Frames, first: int) -> None:
        """Fill an array that lies in one piece with the frames from `first` on."""
        view = into.data.cast("B")
        self._file.seek(first * self._frame_bytes)
        done = 0
        while done < len(view):
            count = self._file.readinto(view[done:])
            if not count:
                raise OSError("the file of frames has been cut short")
            done += count


def in_chunks(frames: FrameSource, *, most_bytes: int = 8 * 2**20) -> Iterator[Frames]:
    """All frames in order, some at a time: as many as `most_bytes` hold, one at least."""
    count, height, width, _ = frames.shape
    some = max(1, most_bytes // max(1, height * width * 3))
    for first in range(0, count, some):
        yield frames[first : first + some]


def _write(file: Any, frame: Frames, place: int) -> None:
    view = frame.data.cast("B")
    file.seek(place)
    while len(view):
        view = view[file.write(view) :]
