"""A run's progress as the WebUI's own state, and the WebUI's Interrupt and Skip as the run's."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

from modules import shared

from t2v_core.hosts.webui import settings
from t2v_core.media.animation import moving_image
from t2v_core.run import ClipStarted, Event, Preview, Progress, Run, Stage

logger = logging.getLogger(__name__)

PARTS = 1000
"""The WebUI knows sampling steps alone: a clip counts as so many of them, spread over all stages."""

# How much of a clip's time each stage takes, roughly; loading comes before text, sampling and decoding.
_SHARES = (
    (Stage.LOADING, 0.05), (Stage.TEXT, 0.01), (Stage.LOADING, 0.06), (Stage.SAMPLING, 0.72),
    (Stage.LOADING, 0.02), (Stage.DECODING, 0.1), (Stage.ENCODING, 0.04),
)  # fmt: skip
_LOOK_EVERY = 0.1  # seconds


class StateListener:
    """Writes what a run reports into `shared.state`, from which the page's progress bar is made."""

    def __init__(self) -> None:
        self._position = 0
        self._preview_at = 0.0
        self._fps = 8.0

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, ClipStarted):
            self._position = 0
            self._fps = event.request.fps or self._fps
            shared.state.job_count = event.count
            shared.state.job_no = event.index
            shared.state.sampling_steps = PARTS
            shared.state.sampling_step = 0
        elif isinstance(event, Progress):
            self._show(event)
        elif isinstance(event, Preview) and self._wants_preview(event.step):
            self._preview(event)

    def _show(self, progress: Progress) -> None:
        stages = [stage for stage, _ in _SHARES]
        if progress.stage in stages[self._position :]:
            self._position = stages.index(progress.stage, self._position)
        before = sum(share for _, share in _SHARES[: self._position])
        part = _SHARES[self._position][1] * progress.done / max(1, progress.total)
        shared.state.sampling_step = max(shared.state.sampling_step, round(PARTS * (before + part)))
        shared.state.textinfo = _in_words(progress)

    def _preview(self, event: Preview) -> None:
        try:
            shared.state.assign_current_image(moving_image(event.frames(), self._fps))
        except Exception:  # a preview must never cost the run
            logger.exception("No preview of step %d", event.step)

    def _wants_preview(self, step: int) -> bool:
        every = shared.opts.show_progress_every_n_steps
        if not (shared.opts.live_previews_enable and settings.value("preview") and every > 0 and step % every == 0):
            return False
        if time.monotonic() - self._preview_at < shared.opts.live_preview_refresh_period / 1000:
            return False
        self._preview_at = time.monotonic()
        return True


def _in_words(progress: Progress) -> str:
    if progress.unit == "B":
        return f"{progress.stage.value} {progress.done / 1e9:.1f} of {progress.total / 1e9:.1f} GB"
    return f"{progress.stage.value} {progress.done}/{progress.total}"


@contextlib.contextmanager
def obeying_buttons(run: Run) -> Iterator[None]:
    """While the block runs, Interrupt and Skip of the page stop the run; each press counts, also the second one."""
    ended = threading.Event()
    state = shared.state

    def look() -> None:
        while not ended.wait(_LOOK_EVERY):
            if state.interrupted:
                state.interrupted = False
                run.interrupt()
            if state.skipped:
                state.skipped = False
                run.skip()
            if state.stopping_generation:
                run.finish_clip()

    watcher = threading.Thread(target=look, name="txt2video buttons", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
