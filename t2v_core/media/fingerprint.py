"""A short name for a file's content, by which it's known again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from t2v_core.media.reading import readable
from t2v_core.media.sequences import pictures_of

_WHOLE = 64 * 2**20
_END = 8 * 2**20
_DIGITS = 10


def fingerprint(path: Path) -> str:
    """The first ten hex digits of the file's SHA-256; of a larger one than 64 MiB, of its size and its two ends.

    Of a folder of pictures, those of their names and sizes.

    Raises:
        UnreadableFileError: it isn't there, or may not be read.
    """
    digest = hashlib.sha256()
    if os.path.isdir(path):
        for picture in pictures_of(path):
            digest.update(f"{picture.name} {picture.stat().st_size}\n".encode(errors="replace"))
        return digest.hexdigest()[:_DIGITS]
    with readable(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= _WHOLE:
            while piece := file.read(2**20):
                digest.update(piece)
        else:
            digest.update(str(size).encode() + file.read(_END))
            file.seek(-_END, os.SEEK_END)
            digest.update(file.read(_END))
    return digest.hexdigest()[:_DIGITS]
