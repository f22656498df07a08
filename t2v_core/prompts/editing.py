"""[from:to:when] and [a|b] in a prompt: the texts that it is in turn while a clip is sampled."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

_Piece: TypeAlias = "str | _Edit | _Turns | tuple[_Piece, ...]"
"""Text, what changes over the steps, or several of both."""

_MARKS = re.compile(r"\\.|[\\()\[\]:|]")
_WHEN = re.compile(r"\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")
_PAIRS = {")": "(", "]": "["}


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a prompt says up to the sampling step `until`, counted from 1."""

    until: int
    text: str


@dataclass(frozen=True, slots=True)
class SecondPass:
    """A pass that goes on after one of `first_steps`: whole numbers count on from there, 1.5 is half-way through it."""

    first_steps: int


def schedule(prompt: str, steps: int, *, second: SecondPass | None = None) -> tuple[Stretch, ...]:
    """The stretches of a prompt, at least one, the last until `steps`; neighbours may say the same.

    A prompt that isn't well formed, with a lone | or \\, is one stretch as it stands; other stray marks are text.
    """
    try:
        reader = _read(prompt, _Clock(steps, second))
    except _MalformedError:
        return (Stretch(steps, prompt),)
    return tuple(Stretch(until, _text_at(reader.pieces, until)) for until in sorted({steps, *reader.changes}))


def text_at(stretches: tuple[Stretch, ...], step: int) -> str:
    """What a prompt says in the sampling step `step`, counted from 0.

    As the WebUI's, its steps begin one late: a stretch until 5 is in use for the steps 0 to 5.
    """
    return next((stretch.text for stretch in stretches if step <= stretch.until), stretches[-1].text)


class _MalformedError(Exception):
    """A mark that can't be text where it stands."""


@dataclass(frozen=True, slots=True)
class _Edit:
    before: tuple[_Piece, ...]
    after: tuple[_Piece, ...]
    until: int

    def at(self, step: int) -> tuple[_Piece, ...]:
        return self.before if step <= self.until else self.after


@dataclass(frozen=True, slots=True)
class _Turns:
    options: tuple[tuple[_Piece, ...], ...]

    def at(self, step: int) -> tuple[_Piece, ...]:
        return self.options[(step - 1) % len(self.options)]


@dataclass(frozen=True, slots=True)
class _Clock:
    """Which step a number in a prompt means."""

    steps: int
    second: SecondPass | None

    def step(self, number: str) -> int:
        """A number with a point is a share of all steps, one without a step; at most the last."""
        value = float(number)
        if "." in number:
            value = (value - (1.0 if self.second else 0.0)) * self.steps
        else:
            value -= self.second.first_steps if self.second else 0
        return int(max(-1.0, min(float(self.steps), value)))


@dataclass(slots=True)
class _Group:
    """A bracket that is still open, with what stands between its separators so far."""

    bracket: str
    parts: list[list[_Piece]] = field(default_factory=lambda: [[]])
    separators: list[str] = field(default_factory=list)

    def separate(self, separator: str) -> None:
        self.separators.append(separator)
        self.parts.append([])

    def as_text(self) -> Iterator[_Piece]:
        """Its marks and what lies between them, if it turns out to be no group."""
        if "|" in self.separators:
            raise _MalformedError
        for mark, part in zip([self.bracket, *self.separators], self.parts, strict=True):
            yield mark
            yield from part


@dataclass(slots=True)
class _Reader:
    """What was read so far: whole pieces, and the groups that are open, each within the one before."""

    clock: _Clock
    pieces: list[_Piece] = field(default_factory=list)
    open: list[_Group] = field(default_factory=list)
    changes: set[int] = field(default_factory=set)

    def add(self, piece: _Piece) -> None:
        (self.open[-1].parts[-1] if self.open else self.pieces).append(piece)

    def separate(self, separator: str) -> None:
        if self.open:
            self.open[-1].separate(separator)
        elif separator == "|":
            raise _MalformedError
        else:
            self.add(separator)

    def close(self, bracket: str) -> None:
        """End the innermost group; where that makes none, no bracket around it can be one either."""
        matches = bool(self.open) and self.open[-1].bracket == _PAIRS[bracket]
        piece = self._whole(self.open[-1]) if matches else None
        if piece is None:
            self.give_up_groups()
        else:
            self.open.pop()
        self.add(bracket if piece is None else piece)

    def give_up_groups(self) -> None:
        for group in self.open:
            self.pieces.extend(group.as_text())
        self.open = []

    def _whole(self, group: _Group) -> _Piece | None:
        """What a closed group is: an edit, alternatives, or text in brackets."""
        colons, bars = group.separators.count(":"), group.separators.count("|")
        parts = [tuple(part) for part in group.parts]
        if colons == bars == 0 or (group.bracket == "(" and colons == 1 and not bars):
            closing = ")" if group.bracket == "(" else "]"
            return (*group.as_text(), closing)
        if group.bracket == "[" and bars and not colons:
            self.changes.update(range(1, self.clock.steps + 1))
            return _Turns(tuple(parts))
        if group.bracket == "[" and 1 <= colons <= 2 and not bars:
            return self._edit(parts)
        return None

    def _edit(self, parts: list[tuple[_Piece, ...]]) -> _Edit | None:
        *texts, last = parts
        words = [piece for piece in last if isinstance(piece, str)]
        when = _WHEN.fullmatch("".join(words))
        if when is None or len(words) < len(last):
            return None
        until = self.clock.step(when[1])
        if until >= 1:
            self.changes.add(until)
        return _Edit(texts[0] if len(texts) == 2 else (), texts[-1], until)


def _read(prompt: str, clock: _Clock) -> _Reader:
    reader, position = _Reader(clock), 0
    for match in _MARKS.finditer(prompt):
        if match.start() > position:
            reader.add(prompt[position : match.start()])
        position, mark = match.end(), match.group()
        if mark == "\\":
            raise _MalformedError
        if len(mark) == 2:
            reader.add(mark)
        elif mark in "([":
            reader.open.append(_Group(mark))
        elif mark in ")]":
            reader.close(mark)
        else:
            reader.separate(mark)
    reader.add(prompt[position:])
    reader.give_up_groups()
    return reader


def _text_at(pieces: list[_Piece], step: int) -> str:
    """Without recursion, as brackets may stand in brackets without end."""
    texts: list[str] = []
    stack = [iter(pieces)]
    while stack:
        piece = next(stack[-1], None)
        if piece is None:
            stack.pop()
        elif isinstance(piece, str):
            texts.append(piece)
        else:
            stack.append(iter(piece if isinstance(piece, tuple) else piece.at(step)))
    return "".join(texts)
