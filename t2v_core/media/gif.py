"""gif: one palette for the whole clip, the infotext as a comment, and of each frame only what has changed."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import GifImagePlugin, Image

from t2v_core.errors import OutputError
from t2v_core.media import Encoding, checked_chunk
from t2v_core.media.pace import paced
from t2v_core.media.palette import Palette, palette_of
from t2v_core.media.stored_frames import StoredFrames, in_chunks
from t2v_core.media.temporary import folder_of
from t2v_core.media.written_file import WrittenFile
from t2v_core.video import Frames, FrameSource

_UNIT = 100  # of a second
_FASTEST = Fraction(50)  # browsers show what is faster at 10 frames a second
_LARGEST = 65535

Indices = npt.NDArray[np.uint8]


def write(target: Path, chunks: Iterable[Frames], encoding: Encoding) -> int:
    """Write a gif; see `t2v_core.media.Write`. The whole clip is seen before its palette is chosen.

    Raises:
        OutputError: no frames, too large a picture, a full disk.
        ValueError: a chunk isn't of the size that was said.
    """
    if max(encoding.width, encoding.height) > _LARGEST:
        raise OutputError(f"A gif can't have {encoding.width}x{encoding.height} pixels.")
    with StoredFrames(folder_of(target), height=encoding.height, width=encoding.width) as stored:
        for chunk in chunks:
            stored.append(checked_chunk(chunk, encoding))
        if not len(stored):
            raise OutputError("There are no frames to write.")
        palette = palette_of(stored)
        frames = 0
        with WrittenFile(target) as file:
            file.write(_head(encoding, palette))
            for part in _parts(stored, palette, encoding.rate):
                file.write(part)
                frames += 1
            file.write(b";")
    return frames


def _head(encoding: Encoding, palette: Palette) -> bytes:
    """All that comes before the first frame, as the GIF89a specification says."""
    parts = [b"GIF89a", struct.pack("<HHBBB", encoding.width, encoding.height, 0xF7, 0, 0), palette.table]
    if encoding.loop_count != 1:  # how often it is repeated: once less than it is shown; 0 is without end
        times = max(0, min(encoding.loop_count - 1, _LARGEST))
        parts.append(b"\x21\xff\x0bNETSCAPE2.0" + _blocks(struct.pack("<BH", 1, times)))
    if encoding.infotext:
        parts.append(b"\x21\xfe" + _blocks(encoding.infotext.encode()))
    return b"".join(parts)


def _blocks(content: bytes) -> bytes:
    pieces = (content[start : start + 255] for start in range(0, len(content), 255))
    return b"".join(bytes([len(piece)]) + piece for piece in pieces) + b"\0"


def _parts(stored: FrameSource, palette: Palette, rate: Fraction) -> Iterator[bytes]:
    """Each frame as it stands in the file: when it's shown, and the pixels that aren't as they were."""
    before: Indices | None = None
    frames = (frame for chunk in in_chunks(stored) for frame in chunk)
    for frame, duration in paced(frames, rate, unit=_UNIT, fastest=_FASTEST):
        indices = palette.indices(frame)
        left, top, part = (0, 0, indices) if before is None else _changed(before, indices, palette.unused)
        # "Leave it there": the next frame is drawn over this one. The last bit says that there is a transparent index.
        flags = 1 << 2 | (before is not None)
        control = struct.pack("<4BHBB", 0x21, 0xF9, 4, flags, min(duration, _LARGEST), palette.unused, 0)
        picture = Image.frombytes("P", (part.shape[1], part.shape[0]), part.tobytes())
        yield control + b"".join(GifImagePlugin.getdata(picture, (left, top)))
        before = indices


def _changed(before: Indices, indices: Indices, unused: int) -> tuple[int, int, Indices]:
    """Where the smallest rectangle lies that has changed, and its pixels, those that haven't being transparent."""
    changed = before != indices
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    if not rows.size:
        return 0, 0, np.full((1, 1), unused, np.uint8)
    place = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return int(columns[0]), int(rows[0]), np.where(changed[place], indices[place], np.uint8(unused))
