"""Any frame rate: frames in between, made by motion, by blending or by repeating, but never across a cut."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from typing import Protocol

import numpy as np

from t2v_core.errors import Txt2VideoError
from t2v_core.postprocess import Footage, Means, rate, scene_cuts
from t2v_core.request import GenerationRequest
from t2v_core.video import Frames, FrameSource, MadeFrames

MOTION, BLEND, REPEAT = "motion", "blend", "repeat"
_KEPT_FRAMES = 6
_KEPT_PAIRS = 2
_KEPT_CHANGES = 8


class Motion(Protocol):
    """What happens between two frames."""

    def unexplained(self) -> float:
        """The mean difference of the two frames, in 0 to 255, that is left when the motion is taken away."""
        ...

    def between(self, share: float) -> Frames:
        """The frame (h, w, 3) at a share of the way from the first to the second, above 0 and below 1."""
        ...


def process(footage: Footage, request: GenerationRequest, means: Means) -> Footage:
    """See `t2v_core.postprocess.Process`: as long as before, with the request's number of frames a second.

    The source's frames stay as they are where they fall on one of the new times. A loop goes on to its first frame;
    elsewhere the last frame stays until the clip's end.

    Raises:
        Txt2VideoError: motion is asked for and OpenCV isn't installed.
    """
    if request.output_fps is None or rate(request.output_fps) == footage.fps:
        return footage
    wanted = rate(request.output_fps)
    frames = Interpolated(footage.frames, footage.fps / wanted, method=request.interpolation, is_loop=footage.is_loop)
    return Footage(frames, wanted, footage.is_loop)


class Interpolated(MadeFrames):
    """Frames at every `step` of a source, counted in the source's frames; made when they are read, from four of them.

    Reading in order is quick; any other order and several threads are right, and slower.
    """

    def __init__(self, source: FrameSource, step: Fraction, *, method: str, is_loop: bool = False) -> None:
        _, height, width, _ = source.shape
        super().__init__(max(1, round(len(source) / step)), height=height, width=width)
        self._source, self._step = source, step
        self._method, self._is_loop = method, is_loop
        if method != REPEAT:
            load_motion(method)  # what is missing is said now
        self._frames: OrderedDict[int, Frames] = OrderedDict()
        self._pairs: OrderedDict[int, Motion | None] = OrderedDict()
        self._changes: OrderedDict[int, float] = OrderedDict()
        self._lock = threading.Lock()

    def made(self, number: int) -> Frames:
        """Frame `number`, (h, w, 3)."""
        with self._lock:
            return self._at(number * self._step)

    def _at(self, position: Fraction) -> Frames:
        last = len(self._source) - 1
        before, share = divmod(position, 1)
        if share == 0 or len(self._source) == 1 or (before >= last and not self._is_loop):
            return self._frame(min(before, last))
        if self._method == REPEAT:
            return self._frame(before)
        return self._between(before, float(share))

    def _between(self, before: int, share: float) -> Frames:
        first, second = self._frame(before), self._frame(before + 1)
        if np.array_equal(first, second):
            return first
        motion = self._motion(before)
        if motion is None:  # another scene begins: the old one stays until then
            return first
        return motion.between(share)

    def _motion(self, before: int) -> Motion | None:
        """What happens between a frame and the next one, None if that is another scene."""
        if before not in self._pairs:
            first, second = self._frame(before), self._frame(before + 1)
            motion = load_motion(self._method)(first, second)
            changes = [self._change(place) for place in (before - 1, before + 1) if self._is_pair(place)]
            is_cut = scene_cuts.is_cut(self._change(before), changes, unexplained=motion.unexplained)
            self._pairs[before] = None if is_cut else motion
            while len(self._pairs) > _KEPT_PAIRS:
                self._pairs.popitem(last=False)
        return self._pairs[before]

    def _change(self, before: int) -> float:
        if before not in self._changes:
            self._changes[before] = scene_cuts.change(self._frame(before), self._frame(before + 1))
            while len(self._changes) > _KEPT_CHANGES:
                self._changes.popitem(last=False)
        return self._changes[before]

    def _is_pair(self, before: int) -> bool:
        return self._is_loop or 0 <= before < len(self._source) - 1

    def _frame(self, number: int) -> Frames:
        """One frame of the source; in a loop they go on with the first."""
        number %= len(self._source)
        if number in self._frames:
            self._frames.move_to_end(number)
        else:
            self._frames[number] = self._source[number : number + 1][0]
            while len(self._frames) > _KEPT_FRAMES:
                self._frames.popitem(last=False)
        return self._frames[number]


def load_motion(method: str) -> Callable[[Frames, Frames], Motion]:
    """What makes the frames in between by one of the methods.

    Raises:
        Txt2VideoError: OpenCV is missing.
    """
    if method == BLEND:
        return Blend
    try:
        from t2v_core.postprocess.optical_flow import OpticalFlow
    except ImportError as error:
        raise Txt2VideoError(
            "Frames in between need OpenCV, which can't be imported here.",
            remedy="Install it with: pip install opencv-python-headless, or choose Interpolation blend or repeat.",
        ) from error
    return OpticalFlow


class Blend:
    """No motion: one frame fades into the other."""

    def __init__(self, first: Frames, second: Frames) -> None:
        self._first, self._second = first, second

    def unexplained(self) -> float:
        """All of it; see `Motion`."""
        return scene_cuts.change(self._first, self._second)

    def between(self, share: float) -> Frames:
        """See `Motion`."""
        mixed = self._first * np.float32(1 - share) + self._second * np.float32(share)
        return (mixed + np.float32(0.5)).astype(np.uint8)
