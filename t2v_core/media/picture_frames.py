"""The frames of files that ffmpeg doesn't read for us: animated WebP, single pictures, and folders of pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from t2v_core.errors import UnreadableFileError
from t2v_core.media.problems import shown
from t2v_core.media.riff import HEAD, chunks_of
from t2v_core.video import Frames

_NUMBERED = re.compile(r"\d{5,}\.(png|jpg)")
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True)
class Pictures:
    """The files of a clip in the order in which they are shown; a single one may be a WebP that moves."""

    paths: tuple[Path, ...]

    def frames(self) -> Iterator[Frames]:
        """Each frame, (h, w, 3) uint8 RGB.

        Raises:
            UnreadableFileError: a file is damaged.
        """
        for path in self.paths:
            try:
                with Image.open(path) as picture:
                    for number in range(getattr(picture, "n_frames", 1)):
                        picture.seek(number)
                        yield np.array(picture.convert("RGB"))
            except _DAMAGE as error:
                raise UnreadableFileError(f"{shown(path)} is cut short or damaged ({error}).") from error

    def size(self) -> tuple[int, int, str]:
        """Width and height of the first, and what kind of picture it is.

        Raises:
            UnreadableFileError: it is damaged.
        """
        try:
            with Image.open(self.paths[0]) as picture:
                return *picture.size, (picture.format or "").lower()
        except _DAMAGE as error:
            raise UnreadableFileError(f"{shown(self.paths[0])} is cut short or damaged ({error}).") from error

    def durations(self) -> list[Fraction]:
        """Seconds of each frame of a WebP that moves; 0 for pictures that stand still."""
        if len(self.paths) == 1:
            found = list(_durations_of_webp(self.paths[0]))
            if found:
                return found
        return [Fraction(0)] * len(self.paths)


def pictures_in(path: Path) -> Pictures | None:
    """The pictures that a file or folder is made of; None for what ffmpeg reads, and for a folder of other things."""
    if path.is_dir():
        numbered = tuple(sorted(child for child in path.iterdir() if _NUMBERED.fullmatch(child.name)))
        return Pictures(numbered) if numbered else None
    with path.open("rb") as file:
        begins = file.read(4096)
    is_still_png = begins.startswith(b"\x89PNG") and b"acTL" not in begins
    is_webp = begins[:4] + begins[8:12] == b"RIFFWEBP"
    return Pictures((path,)) if is_still_png or is_webp or begins.startswith(b"\xff\xd8\xff") else None


def _durations_of_webp(path: Path) -> Iterator[Fraction]:
    with path.open("rb") as file:
        if file.read(HEAD)[8:] != b"WEBP":
            return
        for kind, begins in chunks_of(file, first=16):
            if kind == b"ANMF" and len(begins) == 16:
                yield Fraction(int.from_bytes(begins[12:15], "little"), 1000)
