"""Deep features kept from step to step (DeepCache, arXiv 2312.00858): what a network's inner blocks gave, for one run.

Neighbouring steps differ in fine detail; what the inner, coarse blocks see hardly changes between them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from t2v_core.sampling.schedule import Level, step_of


class DeepFeatures:
    """Answers for the inner blocks with what they gave up to `every` - 1 steps ago; one object serves one run.

    `announce` says which call of the network comes next, then the network asks. A step is told by its noise level, so
    samplers that call the network twice within one, or a run that is taken up again, need nothing of their own. What is
    kept is kept for each of guidance's texts, so that these may come in one batch, one after the other, or one alone.
    """

    def __init__(self, levels: Sequence[Level], *, every: int) -> None:
        self._levels = levels
        self._every = every
        self._kept: dict[Hashable, tuple[int, Tensor]] = {}
        self._next: tuple[int, tuple[Hashable, ...]] = (0, ())

    def announce(self, level: Level, halves: tuple[Hashable, ...]) -> None:
        """The next call of the network is at this level, with a batch of these halves."""
        self._next = step_of(level, self._levels), halves

    def __call__(self, compute: Callable[[], Tensor]) -> Tensor:
        """The inner blocks' features, the halves along their first axis; `compute` runs those blocks.

        Raises:
            RuntimeError: the call was not announced.
        """
        (step, halves), self._next = self._next, (0, ())
        if not halves:
            raise RuntimeError("a call of the network was not announced")
        if all(self._serves(half, step) for half in halves):
            kept = [self._kept[half][1] for half in halves]
            return kept[0] if len(kept) == 1 else torch.cat(kept)
        features = compute()
        # A copy: the network may use its own buffers again.
        for half, part in zip(halves, features.chunk(len(halves)), strict=True):
            self._kept[half] = step, part.clone()
        return features

    def _serves(self, half: Hashable, step: int) -> bool:
        return half in self._kept and 0 <= step - self._kept[half][0] < self._every
