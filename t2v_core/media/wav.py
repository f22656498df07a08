"""WAV files with a comment: a sound and a recipe in one file, which is all that the encoder takes beside the frames."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

from t2v_core.media.riff import chunk

RATE, CHANNELS = 48_000, 2
SAMPLE = 2 * CHANNELS
"""Bytes of one sample of all channels: whole numbers of 16 bits, the low byte first."""


def write_wav(target: Path, samples: Path, *, comment: str) -> None:
    """Make a WAV file of a file of bare samples, as the constants above say, with a comment in front of them.

    Raises:
        OSError: a file can't be read or written.
        ValueError: the comment has a NUL.
    """
    if "\0" in comment:
        raise ValueError("metadata can't hold a NUL character")
    listed = chunk(b"LIST", b"INFO" + chunk(b"ICMT", comment.encode() + b"\0")) if comment else b""
    form = chunk(b"fmt ", struct.pack("<HHIIHH", 1, CHANNELS, RATE, RATE * SAMPLE, SAMPLE, 8 * SAMPLE // CHANNELS))
    with samples.open("rb") as source, target.open("wb") as file:
        size = source.seek(0, 2)
        source.seek(0)
        head = b"WAVE" + form + listed + b"data" + struct.pack("<I", size)
        file.write(b"RIFF" + struct.pack("<I", len(head) + size) + head)
        shutil.copyfileobj(source, file, 2**20)
