"""A made clip together with what it was given: its colors as there, and behind the clip that it carries on."""

from __future__ import annotations

import dataclasses

import numpy as np

from t2v_core.postprocess.upscale import Upscaled, lanczos
from t2v_core.rendering.given import Given
from t2v_core.rendering.seams import match_colors
from t2v_core.video import Frames, FrameSource, Video


class JoinedFrames:
    """The frames of one clip and then those of the next from `first` on, read where they lie.

    A first clip of another size is scaled to the second one's, as it is where a second pass has made that larger.
    """

    def __init__(self, before: FrameSource, after: FrameSource, *, first: int) -> None:
        _, height, width, _ = after.shape
        if before.shape[1:3] != (height, width):
            before = Upscaled(before, width=width, height=height, upscaler=lanczos)
        self._before, self._after, self._first = before, after, first

    @property
    def shape(self) -> tuple[int, ...]:
        """(f, h, w, 3)."""
        return (len(self), *self._after.shape[1:])

    def __len__(self) -> int:
        return len(self._before) + max(0, len(self._after) - self._first)

    def __getitem__(self, index: slice, /) -> Frames:
        wanted = range(*index.indices(len(self)))
        if wanted.step != 1:
            return np.concatenate([self[number : number + 1] for number in wanted] or [self[:0]])
        old = len(self._before)
        before = self._before[min(wanted.start, old) : min(wanted.stop, old)]
        behind = self._first - old
        after = self._after[max(wanted.start, old) + behind : max(wanted.stop, old) + behind]
        return np.concatenate([before, after])


def completed(video: Video, given: Given) -> Video:
    """The video with the colors of the pictures that it was given, behind the clip that it carries on.

    Where a mask keeps a part of the source as it is, colors stay as they are too.
    """
    frames = video.frames
    if video.request.match_colors and given.anchors and given.mask is None:
        frames = match_colors(frames, given.anchors)
    if given.before is not None:
        frames = JoinedFrames(given.before, frames, first=given.continued)
    return video if frames is video.frames else dataclasses.replace(video, frames=frames)
