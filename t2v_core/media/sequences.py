"""Folders of pictures as videos: one picture a frame, in the order of their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from t2v_core.errors import UnreadableFileError
from t2v_core.infotext import parse_infotext
from t2v_core.media.pictures import picture_facts, read_picture
from t2v_core.media.problems import shown
from t2v_core.media.reading import read_metadata
from t2v_core.video import Frames

RATE = 8.0
"""Frames per second of pictures that don't say how fast they are shown: the model's own."""

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Sequence:
    """The pictures of a folder; size of the first, and their rate, from its recipe if it has one."""

    paths: tuple[Path, ...]
    width: int
    height: int
    fps: float

    def frames(self, *, width: int, height: int, fit: str) -> Iterator[Frames]:
        """Each picture, (height, width, 3) uint8 RGB.

        Raises:
            UnreadableFileError: one is no picture, or damaged.
        """
        for path in self.paths:
            yield read_picture(path, width=width, height=height, fit=fit)


def pictures_of(folder: Path) -> tuple[Path, ...]:
    """The pictures in a folder by their names, 2 before 10; links, which may lead elsewhere, are left out.

    Raises:
        UnreadableFileError: there are none, or the folder may not be read.
    """
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and not path.is_symlink()]
    except OSError as error:
        raise UnreadableFileError(f"{shown(folder)} can't be read: {error.strerror}.") from error
    found = [path for path in found if path.is_file() and not path.name.startswith(".")]
    if not found:
        raise UnreadableFileError(f"{shown(folder)} is a folder without pictures.")
    return tuple(sorted(found, key=_by_number))


def sequence_in(folder: Path) -> Sequence:
    """The pictures of a folder as a video.

    Raises:
        UnreadableFileError: as `pictures_of`; or the first of them is none.
    """
    paths = pictures_of(folder)
    facts = picture_facts(paths[0])
    if facts is None:
        raise UnreadableFileError(f"{shown(paths[0])} isn't a picture that can be read.")
    return Sequence(paths, facts.width, facts.height, _rate(paths[0]))


def _by_number(path: Path) -> list[tuple[int, str]]:
    parts = _DIGITS.split(path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _rate(first: Path) -> float:
    try:
        values = parse_infotext(read_metadata(first) or "").values
    except UnreadableFileError:
        return RATE
    return float(values.get("output_fps") or values.get("fps") or RATE)
