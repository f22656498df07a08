"""What saved files are called: numbered in their folder as the WebUI does, in names that every system takes."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NUMBER = re.compile(r"(\d{5,7})(?![^-. ])")
_FORBIDDEN = re.compile('[<>:"/\\\\|?*\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]+')
_EDGES = re.compile(r"\A[\s.]+|[\s.]+\Z")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
# A name may have 255 bytes; the number, the seed and the suffix need some of them.
_LONGEST_LABEL = 150


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one clip is saved: a folder, what its name says beside the number, and what lies beside the file.

    An empty `stem` stands for the clip's seed. Without `numbered` the stem alone is the name, where it is still free.
    `text_beside` is the recipe as a text, `frames_beside` a folder with each frame as PNG.
    """

    folder: Path
    stem: str = ""
    numbered: bool = True
    text_beside: bool = False
    frames_beside: bool = False

    def names(self, *, seed: int, suffix: str, partial: bool) -> Iterator[str]:
        """The names to try, in order, until one is free."""
        stem = self.stem or str(seed)
        if self.numbered:
            return numbered_names(self.folder, stem=stem, suffix=suffix, partial=partial)
        return _names_in_order(safe_name(stem) + ("-partial" if partial else ""), suffix=suffix)


def numbered_names(folder: Path, *, stem: str, suffix: str, partial: bool = False) -> Iterator[str]:
    """The names `00017-1234.mp4`, `00018-1234.mp4` … from the folder's next number on, without end.

    Whoever saves tries them in turn until one is free, so that two processes never get the same. The folder is looked
    at when the first name is asked for. A stopped video is `00017-1234-partial.mp4`.
    """
    parts = [safe_name(stem), *(["partial"] if partial else [])]
    for number in itertools.count(next_number(folder)):
        yield "-".join([f"{number:05d}", *parts]) + suffix


def _names_in_order(name: str, *, suffix: str) -> Iterator[str]:
    yield name + suffix
    for number in itertools.count(1):
        yield f"{name}-{number}{suffix}"


def next_number(folder: Path) -> int:
    """One more than the highest number that any file in the folder begins with, whatever kind of file; from 0.

    Numbers have 5 to 7 digits: a date at the beginning of a name (20240131) isn't one.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        names = []
    return max((int(match[1]) + 1 for match in map(_NUMBER.match, names) if match), default=0)


def safe_name(text: str) -> str:
    """The text as a file's name without suffix on any system; never empty, no separators, at most 150 bytes."""
    name = _EDGES.sub("", _FORBIDDEN.sub("_", text))
    name = _EDGES.sub("", name.encode()[:_LONGEST_LABEL].decode(errors="ignore"))
    return f"_{name}" if not name or _DEVICES.fullmatch(name) else name
