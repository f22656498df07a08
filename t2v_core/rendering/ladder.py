"""What happens when memory runs out during a run: one rung down, and the same work once more."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from t2v_core.rendering.devices import empty_cache, is_out_of_memory
from t2v_core.rendering.measures import Measures
from t2v_core.run import Notice, Run

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Ladder:
    """Where a run is on the rungs that its device has."""

    def __init__(self, rungs: Sequence[Measures], start: Measures, *, device: str) -> None:
        self._rungs = rungs
        self._device = device
        self.rung = start
        self.stepped = False
        """Whether memory ran out on a higher rung."""

    def begin(self, rung: Measures) -> None:
        """Start a new clip on this rung."""
        self.rung, self.stepped = rung, False

    def attempt(self, work: Callable[[], Result], run: Run, *, lowered: Callable[[Measures], None]) -> Result:
        """What the work gives, on a lower rung where memory ran out; work that fails must leave nothing half done.

        `lowered` is called after each step down: it isn't kept, or whoever has a ladder would be held by it.

        Raises:
            RuntimeError, MemoryError: it ran out on the last rung too.
        """
        while True:
            try:
                return work()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or self.rung is self._rungs[-1]:
                    raise
                logger.info("out of memory on the rung %s: %s", self.rung.name, error)
            # Only here the error is gone, and with it the frames that hold what didn't fit.
            self._step_down(run, lowered)

    def _step_down(self, run: Run, lowered: Callable[[Measures], None]) -> None:
        self.rung = self._rungs[self._rungs.index(self.rung) + 1]
        self.stepped = True
        run.report(Notice(f"The memory ran out. Going on with less of it: {self.rung.described}."))
        lowered(self.rung)
        free_memory_again(self._device)


def free_memory_again(device: str) -> None:
    """Give back what nobody holds any longer."""
    gc.collect()
    empty_cache(device)
