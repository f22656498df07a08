"""A run's progress as the WebUI's own state, and the WebUI's Interrupt and Skip as the run's."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

from modules import shared

from t2v_core.frontends.clip_progress import ClipProgress
from t2v_core.hosts.webui import settings
from t2v_core.media.animation import moving_image
from t2v_core.run import ClipStarted, Event, Preview, Progress, Run

logger = logging.getLogger(__name__)

PARTS = 1000
"""The WebUI knows sampling steps alone: a clip counts as so many of them, spread over all stages."""

_LOOK_EVERY = 0.1  # seconds


class StateListener:
    """Writes what a run reports into `shared.state`, from which the page's progress bar is made."""

    def __init__(self) -> None:
        self._progress = ClipProgress()
        self._preview_at = 0.0

    def __call__(self, event: Event) -> None:
        """Show one event."""
        self._progress(event)
        if isinstance(event, ClipStarted):
            shared.state.job_count = event.count
            shared.state.job_no = event.index
            shared.state.sampling_steps = PARTS
        if isinstance(event, (ClipStarted, Progress)):
            shared.state.sampling_step = round(PARTS * self._progress.fraction)
            shared.state.textinfo = self._progress.words
        elif isinstance(event, Preview) and self._wants_preview(event.step):
            self._preview(event)

    def _preview(self, event: Preview) -> None:
        try:
            shared.state.assign_current_image(moving_image(event.frames(), self._progress.fps))
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
