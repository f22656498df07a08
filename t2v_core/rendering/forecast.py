"""How long a run will take, stage by stage, from how long runs on this machine have taken."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from t2v_core.models.hashing import replace_text
from t2v_core.run import Event, Progress, Stage

logger = logging.getLogger(__name__)

KEPT = 200
"""How many measurements are remembered, the newest."""

_ALIKE = 5
"""Of so many clips of one size, the newest, the middle one counts: others may have kept the machine busy meanwhile."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one clip asks of the machine.

    `cells` are latent cells (frames × height × width), `passes` network passes (steps, twice with guidance).
    """

    model: str
    device: str
    precision: str
    cells: int
    passes: int

    def compares_with(self, other: Work) -> bool:
        """Whether one's figures say something about the other."""
        return (self.model, self.device, self.precision) == (other.model, other.device, other.precision)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a whole clip took, in seconds."""

    work: Work
    loading: float
    sampling: float
    decoding: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a request will take; `seconds` is None until a clip of this model was measured here.

    `weights` and `peak` are bytes of the device's memory, `peak` on a CPU of all that the process takes; `held` of them
    it has without any model, such as a WebUI around us. `measures` say how the run will save memory, and `short_of` how
    many bytes are missing nevertheless.
    """

    device: str
    precision: str
    weights: int
    seconds: float | None = None
    peak: int | None = None
    held: int = 0
    measures: tuple[str, ...] = ()
    short_of: int = 0


def foretell(work: Work, known: Iterable[Measurement], *, loaded: bool) -> float | None:
    """Seconds of one clip, by the comparable measurements that are nearest in size.

    Sampling takes its time per pass and cell, decoding per cell.
    """
    comparable = [measured for measured in known if measured.work.compares_with(work)]
    if not comparable:
        return None
    cells = min((measured.work.cells for measured in comparable), key=lambda cells: abs(math.log(cells / work.cells)))
    nearest = [measured for measured in comparable if measured.work.cells == cells][-_ALIKE:]
    sampling = statistics.median_low(measured.sampling / measured.work.passes for measured in nearest) * work.passes
    decoding = statistics.median_low(measured.decoding for measured in nearest)
    loading = 0.0 if loaded else max(measured.loading for measured in comparable)
    return loading + (sampling + decoding) * work.cells / cells


class Watch:
    """A listener that measures a clip while it is made."""

    def __init__(self) -> None:
        self._stage: Stage | None = None
        self._since = 0.0
        self._seconds: dict[Stage, float] = {}

    def __call__(self, event: Event) -> None:
        """See how far the run is."""
        if not isinstance(event, Progress):
            return
        now = time.perf_counter()
        if event.stage is self._stage:
            self._seconds[event.stage] = self._seconds.get(event.stage, 0.0) + now - self._since
        self._stage, self._since = event.stage, now

    def measurement(self, work: Work) -> Measurement:
        """What was seen."""
        loading, sampling, decoding = (
            self._seconds.get(stage, 0.0) for stage in (Stage.LOADING, Stage.SAMPLING, Stage.DECODING)
        )
        return Measurement(work, loading, sampling, decoding)


def read(path: Path) -> list[Measurement]:
    """The measurements of a file, oldest first; none if it isn't there or isn't ours."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [Measurement(**{**row, "work": Work(**row["work"])}) for row in rows]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def remember(path: Path, measurement: Measurement) -> None:
    """Add a measurement to a file, which is replaced as a whole; not being able to is no error."""
    rows: Sequence[Measurement] = [*read(path), measurement][-KEPT:]
    try:
        replace_text(path, json.dumps([dataclasses.asdict(row) for row in rows]))
    except OSError as error:
        logger.info("the measurement isn't remembered: %s", error)
