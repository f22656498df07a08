"""Features of prompts that were encoded before, so that a second run with the same words needs no text tower at all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

MOST = 32
"""How many prompts are remembered, those that were used last; one takes 0.3 MB for every 77 tokens."""


@dataclass(frozen=True, slots=True)
class TextKey:
    """What a prompt's features depend on: the tower's file as it is now, what was done to it, and the tokens."""

    path: Path
    size: int
    changed: int
    tower: Hashable
    tokens: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, path: Path, *, tower: Hashable, tokens: list[list[int]]) -> TextKey:
        """The key of `tokens` (chunks of token ids); `tower` names its number format and what else changes it."""
        facts = path.stat()
        return cls(path, facts.st_size, facts.st_mtime_ns, tower, tuple(map(tuple, tokens)))


class PromptCache:
    """Features (n, d) by key, in main memory."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._features: OrderedDict[TextKey, Tensor] = OrderedDict()

    def find(self, key: TextKey) -> Tensor | None:
        """The features, bit for bit as they were, None if they aren't known any more."""
        if key in self._features:
            self._features.move_to_end(key)
        return self._features.get(key)

    def complete(
        self, keys: Sequence[TextKey], encode: Callable[[Sequence[TextKey]], Sequence[Tensor]]
    ) -> list[Tensor]:
        """The features of each key; those that aren't known are encoded together, and kept if they are finite."""
        found = {key: features for key in keys if (features := self.find(key)) is not None}
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        made = dict(zip(missing, encode(missing), strict=True)) if missing else {}
        for key, features in made.items():
            if torch.isfinite(features).all():
                self.keep(key, features)
        found |= made
        return [found[key] for key in keys]

    def keep(self, key: TextKey, features: Tensor) -> None:
        """Remember features, and forget those that were used longest ago."""
        with torch.inference_mode(mode=False):
            self._features[key] = features.to("cpu", copy=True)
        self._features.move_to_end(key)
        while len(self._features) > self._most:
            self._features.popitem(last=False)
