"""apng: a PNG that moves, every pixel exact."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

from t2v_core.errors import OutputError
from t2v_core.media import Encoding, checked_chunk
from t2v_core.media.png_file import SIGNATURE, chunk, chunks_in, encoded, text_chunk
from t2v_core.media.written_file import WrittenFile
from t2v_core.video import Frames

_LARGEST = 65535


def write(target: Path, chunks: Iterable[Frames], encoding: Encoding) -> int:
    """Write an animated PNG; see `t2v_core.media.Write`.

    Raises:
        OutputError: no frames, a full disk.
        ValueError: a chunk isn't of the size that was said.
    """
    size = encoding.width, encoding.height
    shown = _duration(encoding.rate)
    frames = number = 0
    with WrittenFile(target) as file:
        count_at = file.write(SIGNATURE + chunk(b"IHDR", struct.pack(">2I5B", *size, 8, 2, 0, 0, 0)))
        file.write(chunk(b"acTL", bytes(8)) + text_chunk(encoding.infotext))
        for some in chunks:
            for frame in checked_chunk(some, encoding):
                control = struct.pack(">5I2H2B", number, *size, 0, 0, *shown, 0, 0)
                file.write(chunk(b"fcTL", control) + _pixels(frame, number + 1, first=not frames, encoding=encoding))
                number += 2 if frames else 1  # the first frame's pixels, which every program shows, have no number
                frames += 1
        if not frames:
            raise OutputError("There are no frames to write.")
        file.write(chunk(b"IEND", b""))
        file.write(chunk(b"acTL", struct.pack(">2I", frames, encoding.loop_count)), at=count_at)
    return frames


def _pixels(frame: Frames, number: int, *, first: bool, encoding: Encoding) -> bytes:
    parts = chunks_in(encoded(frame, preset=encoding.preset))
    pixels = b"".join(content for kind, content in parts if kind == b"IDAT")
    return chunk(b"IDAT", pixels) if first else chunk(b"fdAT", struct.pack(">I", number) + pixels)


def _duration(rate: Fraction) -> tuple[int, int]:
    """A frame's seconds as two numbers of 16 bits: exact for every usual rate."""
    duration = 1 / rate
    if max(duration.numerator, duration.denominator) > _LARGEST:
        duration = duration.limit_denominator(1000 if duration > 1 else _LARGEST)
    return min(duration.numerator, _LARGEST), duration.denominator
