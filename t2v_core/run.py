"""The only way out of a running generation (events) and into it (interrupt, skip)."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from t2v_core.errors import Cancelled
from t2v_core.request import GenerationRequest
from t2v_core.video import Frames

Item = TypeVar("Item")


class Stage(str, enum.Enum):
    """What a run is busy with, in order."""

    DOWNLOADING = "Downloading"
    LOADING = "Loading"
    TEXT = "Text"
    SOURCE = "Source"
    SAMPLING = "Sampling"
    DECODING = "Decoding"
    UPSCALING = "Upscaling"
    ENCODING = "Encoding"


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` units of a stage; the unit is "B", "prompt", "step" or "frame"."""

    stage: Stage
    done: int
    total: int
    unit: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence the user should see; the run goes on."""

    message: str


@dataclass(frozen=True, slots=True)
class Preview:
    """The current estimate after sampling step `step`, as pictures for who calls `frames`; nobody else pays for them.

    `frames` gives (f, h, w, 3) uint8 RGB, one pixel for each latent cell, and may be called later and in any thread.
    """

    step: int
    frames: Callable[[], Frames]


@dataclass(frozen=True, slots=True)
class ClipStarted:
    """Clip `index` (from 0) of `count` begins; its resolved request holds the seed that it will use."""

    index: int
    count: int
    request: GenerationRequest


@dataclass(frozen=True, slots=True)
class PassStarted:
    """A clip is made in `count` passes through all stages, and `index` (from 0) begins."""

    index: int
    count: int


@dataclass(frozen=True, slots=True)
class ClipSaved:
    """A whole file with the recipe `infotext` lies at `path`; `partial` if the run was stopped before its end.

    `first_frame` is (h, w, 3) uint8 RGB, as it was before it was encoded. `also` are the clip's files in the other
    formats that were asked for. Each is a file, or a folder of pictures.
    """

    path: Path
    partial: bool
    infotext: str
    first_frame: Frames = dataclasses.field(repr=False, compare=False)
    also: tuple[Path, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files of the clip."""
        return (self.path, *self.also)


Event = Progress | Notice | Preview | ClipStarted | PassStarted | ClipSaved
Listener = Callable[[Event], None]


class Stop(enum.Enum):
    """How the user asked to stop: this clip only, or everything. Both keep what is there."""

    SKIP = "skip"
    INTERRUPT = "interrupt"


class Run:
    """One user's running request; `interrupt` and `skip` may be called from any thread and from signal handlers."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = list(listeners)
        self._lock = threading.RLock()
        self._stop: Stop | None = None
        self._stops = 0
        self._last_clip = False

    def listen(self, listener: Listener) -> None:
        """Tell one more listener from now on."""
        self._listeners.append(listener)

    @contextlib.contextmanager
    def heard_by(self, listener: Listener) -> Iterator[None]:
        """Tell one more listener, until the end of the block."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def report(self, event: Event) -> None:
        """Tell the listeners, in the order in which they came."""
        for listener in tuple(self._listeners):
            listener(event)

    def track(
        self,
        items: Iterable[Item],
        *,
        stage: Stage,
        total: int,
        unit: str,
        units: Callable[[Item], int] = lambda item: 1,
        done: int = 0,
    ) -> Iterator[Item]:
        """Yield the items, reporting each as `units(item)` units of `stage` once it's dealt with, `done` before."""
        self.report(Progress(stage, done, total, unit))
        for item in items:
            yield item
            done += units(item)
            self.report(Progress(stage, done, total, unit))

    def interrupt(self) -> None:
        """Stop now, keep what is there, start nothing more."""
        with self._lock:
            self._stop = Stop.INTERRUPT
            self._stops += 1

    def skip(self) -> None:
        """Stop the current clip, keep what is there, go on to the next; an interrupt is never weakened to a skip."""
        with self._lock:
            self._stop = self._stop or Stop.SKIP
            self._stops += 1

    def finish_clip(self) -> None:
        """Make the current clip whole, then start no more; may be called from any thread, and more than once."""
        self._last_clip = True

    @property
    def stop(self) -> Stop | None:
        """What the user asked for, if anything."""
        return self._stop

    @property
    def stops(self) -> int:
        """How often the user has asked to stop: a stage that begins after a stop ends early only at the next one."""
        return self._stops

    def raise_if_stopped(self) -> None:
        """Raise `Cancelled` if the user asked to stop; for stages from which nothing can be kept."""
        if self._stop is not None:
            raise Cancelled

    def begin_clip(self) -> bool:
        """Forget a skip of the clip before; False if the user wants no more, so that no clip should begin."""
        with self._lock:
            if self._stop is Stop.SKIP:
                self._stop = None
            return self._stop is None and not self._last_clip
