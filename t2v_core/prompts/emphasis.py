"""(more), [less], (this much:1.3), BREAK and \\( in a prompt: its phrases with the weight of each."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

MORE = 1.1
"""What a pair of round brackets multiplies a weight by; a pair of square ones divides by it."""

DEEPEST = 100
"""Brackets within more open ones than this are text: their weights would be no numbers any more."""

_BREAK = "BREAK"
_TOKENS = re.compile(
    r"(?P<escaped>\\[\\()\[\]]?)"
    r"|(?P<opening>[(\[])"
    r"|:\s*(?P<weight>[+-]?[.\d]+)\s*\)"
    r"|(?P<closing>[)\]])"
    r"|[^\\()\[\]:]+|:"
)
_BREAKS = re.compile(rf"\b{_BREAK}\b")


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that count alike, or the end of a chunk."""

    text: str
    weight: float

    @property
    def is_break(self) -> bool:
        """Whether a new chunk of tokens begins here. As in the WebUI, a BREAK in weighted brackets is just a word."""
        return (self.text, self.weight) == (_BREAK, -1.0)


def phrases(text: str) -> tuple[Phrase, ...]:
    """The phrases of a text, at least one; brackets that are never closed last to the end."""
    reader = _Reader()
    for token in _TOKENS.finditer(text):
        if token["escaped"]:
            reader.add(token.group()[1:])
        elif token["opening"]:
            reader.open(token.group())
        elif token["weight"]:
            reader.weigh(token.group(), token["weight"])
        elif token["closing"]:
            reader.close(token.group())
        else:
            reader.add_words(token.group())
    return reader.finish()


def plain(text: str) -> str | None:
    """The text if it is one phrase that counts as usual, as prompts without any syntax are, else None."""
    found = phrases(text)
    return found[0].text if len(found) == 1 and found[0].weight == 1 else None


class _Reader:
    """Phrases as they come, and where the brackets that are open now began."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._weights: list[float] = []
        self._open: dict[str, list[int]] = {"(": [], "[": []}

    def add(self, text: str, weight: float = 1.0) -> None:
        self._texts.append(text)
        self._weights.append(weight)

    def add_words(self, text: str) -> None:
        first, *rest = _BREAKS.split(text)
        self.add(first.rstrip() if rest else first)
        for place, part in enumerate(rest, start=1):
            self.add(_BREAK, -1.0)
            self.add(part.strip() if place < len(rest) else part.lstrip())

    def open(self, bracket: str) -> None:
        if sum(map(len, self._open.values())) < DEEPEST:
            self._open[bracket].append(len(self._texts))
        else:
            self.add_words(bracket)

    def weigh(self, token: str, weight: str) -> None:
        """A closing round bracket with a weight, unless it is none or there is nothing to close."""
        number = _number(weight)
        if self._open["("] and number is not None:
            self._multiply(self._open["("].pop(), number)
        else:
            self.add_words(token)

    def close(self, bracket: str) -> None:
        opening, factor = ("(", MORE) if bracket == ")" else ("[", 1 / MORE)
        if self._open[opening]:
            self._multiply(self._open[opening].pop(), factor)
        else:
            self.add_words(bracket)

    def _multiply(self, start: int, factor: float) -> None:
        for place in range(start, len(self._weights)):
            self._weights[place] *= factor

    def finish(self) -> tuple[Phrase, ...]:
        for bracket, factor in (("(", MORE), ("[", 1 / MORE)):
            for start in self._open[bracket]:
                self._multiply(start, factor)
        found: list[Phrase] = []
        for text, weight in zip(self._texts or [""], self._weights or [1.0], strict=True):
            if found and found[-1].weight == weight:
                found[-1] = Phrase(found[-1].text + text, weight)
            else:
                found.append(Phrase(text, weight))
        return tuple(found)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
