"""AND in a prompt: several texts that a clip follows at once, each with a weight."""

from __future__ import annotations

import re
from dataclasses import dataclass

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"[-+]?(?:\d+\.?|\d*\.\d+)")


@dataclass(frozen=True, slots=True)
class Composed:
    """One of a prompt's texts, and how strongly it counts."""

    text: str
    weight: float = 1.0


def composed(prompt: str) -> tuple[Composed, ...]:
    """The texts of a prompt, at least one; a number after a last colon is a weight, with a single text too."""
    return tuple(_weighed(text) for text in _AND.split(prompt))


def _weighed(text: str) -> Composed:
    before, colon, after = text.rpartition(":")
    if colon and _WEIGHT.fullmatch(after.strip()):
        return Composed(before.rstrip(), float(after))
    return Composed(text.rstrip())
