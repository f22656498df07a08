"""From a renderer's frames to those that are encoded: the processors, with the host's means and on its disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from t2v_core.host import Upscaler
from t2v_core.media.stored_frames import StoredFrames, in_chunks
from t2v_core.postprocess import Footage, Means, process, rate
from t2v_core.postprocess.upscale import careful, notes_of
from t2v_core.run import Run, Stage
from t2v_core.video import FrameSource, Video


def finish(video: Video, *, upscalers: Mapping[str, Upscaler], run: Run, folder: Path) -> tuple[Video, Footage]:
    """A video with notes on its finishing, and its frames as its request wants them in the file, with their rate.

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

    ours = careful(upscalers, run, outlasts_stop=True)
    footage = Footage(video.frames, rate(request.fps or 1), is_loop=request.loop)
    footage = process(footage, request, Means(ours, keep))
    return dataclasses.replace(video, notes={**video.notes, **notes_of(ours, "Upscaled by")}), footage
