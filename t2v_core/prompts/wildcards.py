"""`__colors__` in a prompt: a line of the file colors.txt, drawn by the clip's seed."""

from __future__ import annotations

import fnmatch
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LARGEST_FILE = 16 * 2**20
MOST_FILES = 50_000
MOST_DRAWS = 500
"""In one prompt: lines may hold wildcards again, and a file that names itself would never end."""

_NAME = re.compile(r"__(?P<name>[\w*][\w \-.*/\\]*?)__")
_WEIGHT = re.compile(r"(?P<weight>\d{1,9}(?:\.\d{1,9})?)::(?P<text>.*)")


@dataclass(slots=True)
class Drawing:
    """Draws for one clip: the same seed draws the same lines from the same files, one after the other."""

    folders: Sequence[Path]
    seed: int
    missing: list[str] = field(default_factory=list)
    """Names that no file has, in the order in which they came; they stay in the prompt."""
    _draws: int = 0
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(f"wildcards {self.seed}")

    def prompt(self, template: str) -> str:
        """The template with a line in the place of each wildcard."""
        written: list[str] = []
        rest = template
        while match := _NAME.search(rest):
            written.append(rest[: match.start()])
            line = self._line(match["name"])
            if line is None:
                written.append(match.group())
                rest = rest[match.end() :]
            else:
                rest = line + rest[match.end() :]
        return "".join([*written, rest])

    def _line(self, name: str) -> str | None:
        """A line for a wildcard, None where there is none or too many were drawn."""
        lines = _lines_of(name, self.folders) if self._draws < MOST_DRAWS else []
        if not lines:
            if name not in self.missing:
                self.missing.append(name)
            return None
        self._draws += 1
        texts, weights = zip(*map(_weighed, lines), strict=True)
        return self._random.choices(texts, weights if any(weights) else None)[0]


def has_wildcards(prompt: str) -> bool:
    """Whether something in it looks like one."""
    return _NAME.search(prompt) is not None


def _lines_of(name: str, folders: Sequence[Path]) -> list[str]:
    """The lines of the first folder's files that a name, with * for any part of one, stands for."""
    wanted = name.strip().replace("\\", "/")
    parts = wanted.split("/")
    if any(part.strip(" .") == "" for part in parts):  # no way out of the folder
        return []
    for folder in folders:
        files = _matching(folder, wanted) if "*" in wanted else [folder.joinpath(*parts[:-1], parts[-1] + ".txt")]
        lines = [line for file in files for line in _lines_in(file, folder)]
        if lines:
            return lines
    return []


def _matching(folder: Path, wanted: str) -> list[Path]:
    names = {}
    for count, path in enumerate(folder.rglob("*.txt")):
        if count == MOST_FILES:
            break
        names[path.relative_to(folder).with_suffix("").as_posix()] = path
    return [names[name] for name in sorted(names) if fnmatch.fnmatchcase(name, wanted)]


def _lines_in(file: Path, folder: Path) -> Iterator[str]:
    """A file's lines but empty ones and those that begin with #; none if it can't be read or lies elsewhere."""
    try:
        real = file.resolve(strict=True)
        if not real.is_relative_to(folder.resolve()) or not real.is_file() or real.stat().st_size > LARGEST_FILE:
            return
        text = real.read_text(encoding="utf-8-sig", errors="replace")
    except (OSError, RuntimeError, ValueError):  # a loop of links; a name with a null byte
        return
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def _weighed(line: str) -> tuple[str, float]:
    """A line's text, and how often it's drawn beside others: `3::red` three times as often."""
    match = _WEIGHT.fullmatch(line)
    return (match["text"].strip(), float(match["weight"])) if match else (line, 1.0)
