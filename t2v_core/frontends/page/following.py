"""How far a run is, in the words and the pictures that the page shows while it waits."""

from __future__ import annotations

import base64
import io
import logging
import time

from t2v_core.frontends.clip_progress import ClipProgress
from t2v_core.frontends.words import duration
from t2v_core.run import ClipSaved, ClipStarted, Event, Preview

logger = logging.getLogger(__name__)

PREVIEW_EVERY = 1.0
"""Seconds between two previews."""


class Follower:
    """Listens to a run, and tells how far it is; nothing is drawn unless somebody looks."""

    def __init__(self) -> None:
        self.saved = 0
        self._progress = ClipProgress()
        self._started: float | None = None
        self._preview: Preview | None = None
        self._drawn: tuple[float, Preview | None, str] = (0.0, None, "")

    def __call__(self, event: Event) -> None:
        """Take one event in."""
        self._progress(event)
        if isinstance(event, ClipStarted):
            self._started = self._started or time.monotonic()
            self._preview = None
        elif isinstance(event, Preview):
            self._preview = event
        elif isinstance(event, ClipSaved):
            self.saved += 1

    @property
    def fraction(self) -> float:
        """How much of all clips is done, 0 to 1; it never goes back."""
        return (self._progress.clip + self._progress.fraction) / self._progress.clips

    @property
    def words(self) -> str:
        """What is going on now."""
        progress = self._progress
        return (
            f"Clip {progress.clip + 1} of {progress.clips} · {progress.words}" if progress.clips > 1 else progress.words
        )

    @property
    def time_left(self) -> str:
        """An estimate in words, empty before there is anything to estimate from."""
        if self._started is None or self.fraction < 0.02:
            return ""
        return duration((time.monotonic() - self._started) * (1 / self.fraction - 1))

    def preview(self) -> str:
        """The newest estimate of the clip as a moving picture's data URL; empty if there is none."""
        at, shown, picture = self._drawn
        preview = self._preview
        if preview is not None and preview is not shown and time.monotonic() - at >= PREVIEW_EVERY:
            try:
                picture = _drawn(preview, self._progress.fps)
            except Exception:  # a preview must never cost the run
                logger.exception("No preview of step %d", preview.step)
            self._drawn = (time.monotonic(), preview, picture)
        return picture if preview is not None else ""


def _drawn(preview: Preview, fps: float) -> str:
    from t2v_core.media.animation import moving_image

    buffer = io.BytesIO()
    moving_image(preview.frames(), fps).save(buffer, "WEBP", save_all=True)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
