"""Videos as files: the table of formats that we write, one format a file; importing this package loads no encoder."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from t2v_core.video import Frames

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
"""The encoder's presets, from large files made fast to small files made slowly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """What a writer must know before the first frame: size in pixels, frames per second, infotext and quality."""

    width: int
    height: int
    fps: float | Fraction
    infotext: str = ""
    crf: int = 17
    preset: str = "medium"

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1 or self.fps <= 0:
            raise ValueError(f"no video has {self.width}x{self.height} pixels at {self.fps} frames per second")

    @property
    def rate(self) -> Fraction:
        """Frames per second as the fraction that was meant: 23.976 is 2997/125, Fraction(24000, 1001) is itself."""
        if isinstance(self.fps, Fraction):
            return self.fps
        return Fraction(repr(float(self.fps))).limit_denominator(10_000)


Write = Callable[[Path, Iterable[Frames], Encoding], int]
"""`write(target, chunks, encoding)` makes the file `target` of chunks of frames, each (f, h, w, 3) uint8 RGB, as they
come, and returns how many frames it holds.

`target` may exist already and may have any suffix. When it returns, the file is whole and has been read back. On any
exception, its own or one out of `chunks`, the encoder has ended, and `target` is the caller's to remove.

Raises:
    OutputError: the encoder can't write this size, died, or the disk is full.
    ValueError: a chunk isn't of the size that was said.
"""


@dataclass(frozen=True, slots=True)
class Writer:
    """A row: the format's name, its files' suffix, the module with its `write`, and a sentence for the user."""

    name: str
    suffix: str
    module: str
    help: str

    def load(self) -> Write:
        """The format's `write`, imported now."""
        return importlib.import_module(self.module).write


WRITERS = {
    writer.name: writer
    for writer in (
        Writer("mp4", ".mp4", "t2v_core.media.mp4", "H.264, which plays everywhere: browsers, phones, TVs."),
    )
}
"""Every format by name, the default first."""


def checked_chunk(chunk: Frames, encoding: Encoding) -> Frames:
    """The chunk itself, or a ValueError that says what is wrong with it."""
    if chunk.ndim != 4 or chunk.shape[1:] != (encoding.height, encoding.width, 3) or chunk.dtype.name != "uint8":
        raise ValueError(
            f"frames are (f, {encoding.height}, {encoding.width}, 3) uint8 here, not {chunk.shape} {chunk.dtype}"
        )
    return chunk
