"""The files that a request names: how paths are written, where they may lie, and what each of them is for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from t2v_core.errors import FieldProblem, RequestError
from t2v_core.media.problems import shown
from t2v_core.output_fields import SOURCES_SOUND
from t2v_core.request import FIELDS, GenerationRequest, problem

PATHS = ("source", "mask", "first_frame", "last_frame", "continue_from")
"""The fields that hold one path each; `anchors` holds several, and `sound` a path or the word "source"."""

_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
_WHERE = re.compile(r"first|last|-?\d{1,9}(?:\.\d{1,9})?(?:%|s)?")
_ANCHOR_FORM = "Anchors are written as in: 8: a.png @ 0.7; 75%: b.png; 2s: c.png; last: d.png"


@dataclass(frozen=True, slots=True)
class Named:
    """A path of a request as it was written, and the field that it stands in."""

    field: str
    text: str

    @property
    def path(self) -> Path:
        """Where it leads; quotes, as Windows puts them around a copied path, don't belong to it."""
        return path_of(self.text)

    @property
    def label(self) -> str:
        """The field's, as people know it."""
        return FIELDS[self.field].spec.label


@dataclass(frozen=True, slots=True)
class WrittenAnchor:
    """One entry of the field `anchors`: "8", "75%", "2s", "first" or "last", a path, and how strictly it holds."""

    where: str
    named: Named
    strength: float

    def frame(self, *, frames: int, fps: float) -> int:
        """The frame that it stands at, in a clip of so many.

        Raises:
            RequestError: the clip has no such frame.
        """
        number = self.where.rstrip("%s").strip()
        if self.where in ("first", "last"):
            frame = 0 if self.where == "first" else frames - 1
        elif self.where.endswith("%"):
            frame = round(float(number) / 100 * (frames - 1))
        elif self.where.endswith("s"):
            frame = round(float(number) * fps)
        elif "." in number:
            raise problem("anchors", f"An anchor stands at a whole frame, not at {number}. {_ANCHOR_FORM}.")
        else:
            frame = int(number) + (frames if number.startswith("-") else 0)
        if not 0 <= frame < frames:
            raise problem(
                "anchors", f"There is no frame for the anchor at {self.where}: the clip has 0 to {frames - 1}."
            )
        return frame


def path_of(text: str) -> Path:
    """The path that a person typed or pasted."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return Path(os.path.expanduser(text))


def anchors_in(text: str) -> tuple[WrittenAnchor, ...]:
    """The entries of the field `anchors`.

    Raises:
        RequestError: it isn't written as it should be.
    """
    return tuple(_anchor(entry) for entry in _entries(text) if entry.strip())


def _entries(text: str) -> Iterator[str]:
    """What stands between semicolons, or on lines, but for those within quotes; in linear time."""
    entry = ""
    for index, part in enumerate(text.split('"')):
        if index % 2:
            entry += f'"{part}"'
            continue
        first, *more = part.replace("\n", ";").split(";")
        entry += first
        for following in more:
            yield entry
            entry = following
    yield entry


def _anchor(entry: str) -> WrittenAnchor:
    where, _, rest = entry.partition(":")
    where, rest = "".join(where.split()).lower(), rest.strip()
    if rest.startswith('"'):
        path, _, held = rest[1:].partition('"')
        held = held.strip()
        is_held = held.startswith("@")
        held = held[1:].strip() if is_held else held
    else:
        path, at, held = rest.rpartition("@")
        is_held = bool(at) and (path[-1:].isspace() or not path or _number(held) is not None)
        path, held = (path, held.strip()) if is_held else (rest, "")
    if _WHERE.fullmatch(where) is None or not path.strip() or (held and not is_held):
        raise problem("anchors", f"{entry.strip()[:200]!r} is no anchor. {_ANCHOR_FORM}.")
    strength = _number(held) if is_held else 1.0
    if strength is None or not 0 <= strength <= 1:
        raise problem("anchors", f"How strictly an anchor holds is a number from 0 to 1, not {held[:40]!r}.")
    return WrittenAnchor(where, Named("anchors", path.strip()), strength)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def paths_in(request: GenerationRequest) -> Iterator[Named]:
    """Every path that the request names.

    Raises:
        RequestError: the anchors aren't written as they should be.
    """
    for name in PATHS:
        if text := getattr(request, name).strip():
            yield Named(name, text)
    yield from (anchor.named for anchor in anchors_in(request.anchors))
    if (sound := request.sound.strip()) and sound != SOURCES_SOUND:
        yield Named("sound", sound)


def check_inputs(request: GenerationRequest, folders: Sequence[Path] | None) -> None:
    """See that the request names no file that it may not name; opens none of them.

    `folders` are those of `Host.input_folders`; symbolic links are followed before they are compared.

    Raises:
        RequestError: with every path that leads elsewhere, or is none.
    """
    roots = None if folders is None else [os.path.realpath(folder) for folder in folders]
    found = [(named, _problem(named, roots)) for named in paths_in(request)]
    problems = tuple(FieldProblem(named.field, message) for named, message in found if message)
    if problems:
        raise RequestError(problems)


def _problem(named: Named, roots: Sequence[str] | None) -> str:
    text = shown(Path(named.text.replace("\0", "␀")))
    if _ADDRESS.match(named.text):
        return f"{named.label} is a file on this machine, not an address like {text}."
    if "\0" in named.text:
        return f"{named.label}: {text} isn't a path."
    if roots is None:
        return ""
    try:
        real = Path(os.path.realpath(named.path))
    except (OSError, ValueError):
        return f"{named.label}: {text} isn't a path."
    if any(real.is_relative_to(root) for root in roots):
        return ""
    return (
        f"{named.label}: {text} lies outside the folders that this page may read: upload it, or take a clip made here."
    )
