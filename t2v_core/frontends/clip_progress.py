"""How much of a clip is done, over all of its stages."""

from __future__ import annotations

from t2v_core.frontends.words import how_far
from t2v_core.run import ClipStarted, Event, PassStarted, Progress, Stage

SHARES = (
    (Stage.LOADING, 0.05),
    (Stage.TEXT, 0.01),
    (Stage.LOADING, 0.01),
    (Stage.SOURCE, 0.02),
    (Stage.LOADING, 0.05),
    (Stage.SAMPLING, 0.7),
    (Stage.LOADING, 0.02),
    (Stage.DECODING, 0.1),
    (Stage.ENCODING, 0.04),
)
"""How much of a clip's time each stage takes, roughly, in order."""


class ClipProgress:
    """A listener that knows which clip is being made, how much of it is done (0 to 1), and what is going on.

    `fps` are the clip's frames per second, for previews.
    """

    def __init__(self) -> None:
        self.clip, self.clips = 0, 1
        self.fraction = 0.0
        self.words = ""
        self.fps = 8.0
        self._position = 0
        self._pass, self._passes = 0, 1

    def __call__(self, event: Event) -> None:
        """Take one event in; the fraction of a clip never goes back."""
        if isinstance(event, ClipStarted):
            self.clip, self.clips = event.index, event.count
            self.fraction, self._position = 0.0, 0
            self._pass, self._passes = 0, 1
            self.fps = event.request.fps or self.fps
        elif isinstance(event, PassStarted):
            self._position, self._pass, self._passes = 0, event.index, event.count
        elif isinstance(event, Progress):
            self._advance(event)

    def _advance(self, progress: Progress) -> None:
        stages = [stage for stage, _ in SHARES]
        if progress.stage in stages[self._position :]:
            self._position = stages.index(progress.stage, self._position)
        before = sum(share for _, share in SHARES[: self._position])
        part = SHARES[self._position][1] * progress.done / max(1, progress.total)
        done = (self._pass + before + part) / self._passes
        self.fraction = max(self.fraction, min(1.0, done))
        self.words = how_far(progress)
