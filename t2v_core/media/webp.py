"""Animated WebP: each frame a picture of its own, put together here, so that no more than one is in memory."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

from PIL import Image

from t2v_core.errors import OutputError
from t2v_core.media import PRESETS, Encoding, checked_chunk
from t2v_core.media.pace import paced
from t2v_core.media.picture_text import exif_with
from t2v_core.media.quality import effort, picture_quality
from t2v_core.media.riff import HEAD, chunk, chunks_in
from t2v_core.media.written_file import WrittenFile
from t2v_core.video import Frames

_UNIT = 1000  # of a second
_FASTEST = Fraction(90)  # browsers show what is faster at 10 frames a second
_LARGEST = 16383
_ANIMATED, _WITH_EXIF = 2, 8  # flags of the file
_AS_IT_IS = 2  # a frame's flag: not blended with the one before


def write(target: Path, chunks: Iterable[Frames], encoding: Encoding) -> int:
    """Write an animated WebP, without loss at CRF 0; see `t2v_core.media.Write`.

    Raises:
        OutputError: no frames, too large a picture, a full disk.
        ValueError: a chunk isn't of the size that was said.
    """
    if max(encoding.width, encoding.height) > _LARGEST:
        raise OutputError(f"A WebP can't have {encoding.width}x{encoding.height} pixels.")
    pictures = (frame for some in chunks for frame in checked_chunk(some, encoding))
    frames = 0
    with WrittenFile(target) as file:
        length = file.write(_head(encoding))
        for frame, duration in paced(pictures, encoding.rate, unit=_UNIT, fastest=_FASTEST):
            length = file.write(_frame(frame, duration, encoding))
            frames += 1
        if not frames:
            raise OutputError("There are no frames to write.")
        if encoding.infotext:
            length = file.write(chunk(b"EXIF", exif_with(encoding.infotext)))
        file.write(struct.pack("<I", length - 8), at=4)
    return frames


def _head(encoding: Encoding) -> bytes:
    """As the WebP container specification says; the file's length is filled in at the end."""
    flags = _ANIMATED | (_WITH_EXIF if encoding.infotext else 0)
    canvas = struct.pack("<I", flags) + _three(encoding.width - 1) + _three(encoding.height - 1)
    loops = struct.pack("<IH", 0, min(encoding.loop_count, 65535))  # on black, and how often
    return b"RIFF\0\0\0\0WEBP" + chunk(b"VP8X", canvas) + chunk(b"ANIM", loops)


def _frame(frame: Frames, duration: int, encoding: Encoding) -> bytes:
    content = io.BytesIO()
    lossless = encoding.crf == 0
    Image.fromarray(frame).save(
        content,
        "webp",
        lossless=lossless,
        quality=effort(encoding.preset, PRESETS, most=100) if lossless else picture_quality(encoding.crf),
        method=effort(encoding.preset, PRESETS, most=6),
    )
    picture = b"".join(
        chunk(kind, data) for kind, data in chunks_in(content.getvalue(), HEAD) if kind in (b"VP8 ", b"VP8L")
    )
    place = _three(0) + _three(0) + _three(encoding.width - 1) + _three(encoding.height - 1)
    return chunk(b"ANMF", place + _three(duration) + bytes([_AS_IT_IS]) + picture)


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")
