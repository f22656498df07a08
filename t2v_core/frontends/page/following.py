"""How far a run is, in the words and the pictures that the page shows while it waits."""

from __future__ import annotations

import base64
import io
import logging
import time

from t2v_core.run import ClipSaved, ClipStarted, Event, Preview, Progress, Stage

logger = logging.getLogger(__name__)

PREVIEW_EVERY = 1.0
"""Seconds between two previews."""

SHARES = (
    (Stage.LOADING, 0.05), (Stage.TEXT, 0.01), (Stage.LOADING, 0.06), (Stage.SAMPLING, 0.72),
    (Stage.LOADING, 0.02), (Stage.DECODING, 0.1), (Stage.ENCODING, 0.04),
)  # fmt: skip
"""How much of a clip's time each stage takes, roughly, in order."""


class Follower:
    """Listens to a run, and tells how far it is; nothing is drawn unless somebody looks."""

    def __init__(self) -> None:
        self.words = ""
        self.saved = 0
        self._clip, self._clips = 0, 1
        self._position = 0
        self._fraction = 0.0
        self._started: float | None = None
        self._fps = 8.0
        self._preview: Preview | None = None
        self._drawn: tuple[float, Preview | None, str] = (0.0, None, "")

    def __call__(self, event: Event) -> None:
        """Take one event in."""
        if isinstance(event, ClipStarted):
            self._started = self._started or time.monotonic()
            self._clip, self._clips = event.index, event.count
            self._position, self._fraction, self._preview = 0, 0.0, None
            self._fps = event.request.fps or self._fps
        elif isinstance(event, Progress):
            self._advance(event)
        elif isinstance(event, Preview):
            self._preview = event
        elif isinstance(event, ClipSaved):
            self.saved += 1

    @property
    def fraction(self) -> float:
        """How much of all clips is done, 0 to 1; it never goes back."""
        return (self._clip + self._fraction) / self._clips

    @property
    def seconds_left(self) -> float | None:
        """An estimate, None before there is anything to estimate from."""
        if self._started is None or self.fraction < 0.02:
            return None
        return (time.monotonic() - self._started) * (1 / self.fraction - 1)

    def preview(self) -> str:
        """The newest estimate of the clip as a moving picture's data URL; empty if there is none."""
        at, shown, picture = self._drawn
        preview = self._preview
        if preview is not None and preview is not shown and time.monotonic() - at >= PREVIEW_EVERY:
            try:
                picture = _drawn(preview, self._fps)
            except Exception:  # a preview must never cost the run
                logger.exception("No preview of step %d", preview.step)
            self._drawn = (time.monotonic(), preview, picture)
        return picture if preview is not None else ""

    def _advance(self, progress: Progress) -> None:
        stages = [stage for stage, _ in SHARES]
        if progress.stage in stages[self._position :]:
            self._position = stages.index(progress.stage, self._position)
        before = sum(share for _, share in SHARES[: self._position])
        part = SHARES[self._position][1] * progress.done / max(1, progress.total)
        self._fraction = max(self._fraction, min(1.0, before + part))
        if progress.unit == "B":
            how_far = f"{progress.done / 1e9:.1f} of {progress.total / 1e9:.1f} GB"
        else:
            how_far = f"{progress.done}/{progress.total}"
        clip = f"Clip {self._clip + 1} of {self._clips} · " if self._clips > 1 else ""
        self.words = f"{clip}{progress.stage.value} {how_far}"


def _drawn(preview: Preview, fps: float) -> str:
    from t2v_core.media.animation import moving_image

    buffer = io.BytesIO()
    moving_image(preview.frames(), fps).save(buffer, "WEBP", save_all=True)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
