"""What saved files are called: numbered in their folder as the WebUI does, in names that every system takes."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

_NUMBER = re.compile(r"(\d{5,7})(?![^-. ])")
_FORBIDDEN = re.compile('[<>:"/\\\\|?*\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]+')
_EDGES = re.compile(r"\A[\s.]+|[\s.]+\Z")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
# A name may have 255 bytes; the number, the seed and the suffix need some of them.
_LONGEST_LABEL = 150


def numbered_names(folder: Path, *, seed: int, suffix: str, partial: bool = False, label: str = "") -> Iterator[str]:
    """The names `00017-1234.mp4`, `00018-1234.mp4` … from the folder's next number on, without end.

    Whoever saves tries them in turn until one is free, so that two processes never get the same. The folder is looked
    at when the first name is asked for. A stopped video is `00017-1234-partial.mp4`.
    """
    parts = [str(seed), *([safe_name(label)] if label else []), *(["partial"] if partial else [])]
    for number in itertools.count(next_number(folder)):
        yield "-".join([f"{number:05d}", *parts]) + suffix


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
