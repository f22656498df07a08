"""From a renderer's frames to those that are encoded: the processors, with the host's means and on its disk."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from t2v_core.host import Upscaler
from t2v_core.media.stored_frames import StoredFrames, in_chunks
from t2v_core.postprocess import Footage, Means, process, rate
from t2v_core.postprocess.upscale import lanczos
from t2v_core.run import Notice, Run, Stage
from t2v_core.video import Frames, FrameSource, Video

logger = logging.getLogger(__name__)


def finish(video: Video, *, upscalers: Mapping[str, Upscaler], run: Run, folder: Path) -> Footage:
    """The frames of a video as its request wants them in the file, and their rate.

    Most of them come into being when they are read: read them in order and once, or keep them. What is slow to make is
    made now and lies in the file system of `folder`.

    Raises:
        RequestError: the host has no such upscaler.
        OutputError: the disk is full.
    """
    request = video.request

    def keep(frames: FrameSource) -> FrameSource:
        count, height, width, _ = frames.shape
        kept = StoredFrames(folder, height=height, width=width)
        chunks = in_chunks(frames, most_bytes=1)  # one by one, for each of them may take a while
        for chunk in run.track(chunks, stage=Stage.UPSCALING, total=count, unit="frame"):
            kept.append(chunk)
        return kept

    careful = {name: _Careful(name, upscaler, run) for name, upscaler in upscalers.items()}
    footage = Footage(video.frames, rate(request.fps or 1), is_loop=request.loop)
    return process(footage, request, Means(careful, keep))


class _Careful:
    """A host's upscaler that must not cost the clip: when it fails or a stop comes, Lanczos does the rest at once."""

    def __init__(self, name: str, upscaler: Upscaler, run: Run) -> None:
        self._name, self._upscaler, self._run = name, upscaler, run
        self._has_ended = False

    def __call__(self, frame: Frames, width: int, height: int) -> Frames:
        if not self._has_ended and self._run.stop is not None:
            self._end(f"You stopped before {self._name} was through")
        if not self._has_ended:
            try:
                return self._upscaler(frame, width, height)
            except Exception as error:  # whatever it is: the upscaler is another program's
                logger.exception("The upscaler %s failed", self._name)
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                self._end(f"The upscaler {self._name} failed ({reason})")
        return lanczos(frame, width, height)

    def _end(self, why: str) -> None:
        self._has_ended = True
        self._run.report(Notice(f"{why}: lanczos makes the rest of the frames larger."))
