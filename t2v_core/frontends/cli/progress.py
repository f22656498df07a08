"""Progress bars on the console, and what Ctrl-C does."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

from tqdm import tqdm

from t2v_core.run import ClipSaved, ClipStarted, Event, Notice, Progress, Run, Stage

STOPS_BEFORE_QUITTING = 2
KEEPS_FRAMES = "Stopping: decoding what is sampled, then saving it. Press Ctrl-C again to save less."


class ConsoleProgress:
    """A listener that draws one bar a stage on stderr and prints the path of each finished file on stdout."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._stage: Stage | None = None

    def __enter__(self) -> ConsoleProgress:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Progress):
            self._show(event)
        elif isinstance(event, Notice):
            self._say(event.message)
        elif isinstance(event, ClipStarted):
            self._say(_headline(event))
        elif isinstance(event, ClipSaved):
            self._close()
            print(*event.paths, sep="\n", flush=True)

    def _show(self, progress: Progress) -> None:
        if self._bar is None or self._stage is not progress.stage or progress.done < self._bar.n:
            self._close()
            self._stage = progress.stage
            self._bar = tqdm(
                total=progress.total,
                desc=f"{progress.stage.value:<8}",
                unit=progress.unit,
                unit_scale=progress.unit == "B",
                unit_divisor=1024,
                dynamic_ncols=True,
                file=sys.stderr,
            )
        self._bar.update(progress.done - self._bar.n)
        if progress.done >= progress.total:
            self._close()

    def _say(self, message: str) -> None:
        self._close()
        print(message, file=sys.stderr, flush=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = self._stage = None


def _headline(clip: ClipStarted) -> str:
    request = clip.request
    place = f"Clip {clip.index + 1} of {clip.count}: " if clip.count > 1 else ""
    size = f"{request.frames} frames of {request.width}×{request.height} at {request.fps:g} fps"
    steps = f"{request.steps} steps of {request.sampler}, CFG scale {request.cfg_scale:g}"
    return f"{place}{size}, {steps}, seed {request.seed}, {request.precision}, model {request.model}"


@contextlib.contextmanager
def stopping_by_signal(run: Run, *, message: str = KEEPS_FRAMES) -> Iterator[None]:
    """Ctrl-C and a polite kill interrupt the run and keep what is there; the third one ends the program at once.

    `message` says on the console what is kept.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        if run.stops >= STOPS_BEFORE_QUITTING:
            raise KeyboardInterrupt
        run.interrupt()
        print(f"\n{message}", file=sys.stderr, flush=True)

    with handling_stops(stop):
        yield


@contextlib.contextmanager
def handling_stops(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Ctrl-C and a polite kill call `handler` in the block."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
