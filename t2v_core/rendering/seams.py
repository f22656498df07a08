"""Colors at the seams: what the model does to pictures that it was given is taken back in the frames around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from t2v_core.rendering.given import Anchor
from t2v_core.video import Frames, FrameSource

Channels = npt.NDArray[np.float64]
"""(3,): red, green, blue."""

LARGEST_GAIN = 1.25
LARGEST_SHIFT = 32.0  # levels
FLAT = 2.0
"""Levels of spread; contrast isn't measured in what has less, such as a plain wall."""


@dataclass(frozen=True, slots=True)
class _Correction:
    """At a frame: value × gain + shift, for each channel."""

    frame: int
    gain: Channels
    shift: Channels


class MatchedFrames:
    """Frames with their colors corrected as they are read, (f, h, w, 3) uint8."""

    def __init__(self, frames: FrameSource, corrections: Sequence[_Correction]) -> None:
        self._frames = frames
        self._at = [correction.frame for correction in corrections]
        self._gains = np.stack([correction.gain for correction in corrections])
        self._shifts = np.stack([correction.shift for correction in corrections])

    @property
    def shape(self) -> tuple[int, ...]:
        """(f, h, w, 3)."""
        return self._frames.shape

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: slice, /) -> Frames:
        frames = self._frames[index]
        matched = np.empty_like(frames)
        for place, number in enumerate(range(*index.indices(len(self)))):
            gain, shift = (self._between(values, number) for values in (self._gains, self._shifts))
            matched[place] = (frames[place] * gain + shift).round().clip(0, 255)
        return matched

    def _between(self, values: npt.NDArray[np.float64], number: int) -> npt.NDArray[np.float32]:
        """Along a line from one given picture to the next; before the first and after the last as there."""
        channels = [np.interp(number, self._at, values[:, channel]) for channel in range(3)]
        return np.array(channels, np.float32)


def match_colors(frames: FrameSource, anchors: Sequence[Anchor]) -> FrameSource:
    """The frames, each with the colors' mean and contrast as they are in the given pictures nearest to it.

    Of each run of given pictures side by side the first and the last are compared; what holds loosely isn't.
    """
    last = len(frames)
    firm = sorted((anchor for anchor in anchors if anchor.strength >= 1 and anchor.frame < last), key=_frame)
    known = {anchor.frame for anchor in firm}
    ends = [anchor for anchor in firm if not {anchor.frame - 1, anchor.frame + 1} <= known]
    corrections = [_correction(frames[anchor.frame : anchor.frame + 1][0], anchor) for anchor in ends]
    if all(_is_nothing(correction) for correction in corrections):
        return frames
    return MatchedFrames(frames, corrections)


def _frame(anchor: Anchor) -> int:
    return anchor.frame


def _correction(made: Frames, anchor: Anchor) -> _Correction:
    (mean, spread), (wanted_mean, wanted_spread) = _moments(made), _moments(anchor.picture)
    has_contrast = np.minimum(spread, wanted_spread) > FLAT
    gain = np.where(has_contrast, wanted_spread / np.maximum(spread, FLAT), 1.0).clip(1 / LARGEST_GAIN, LARGEST_GAIN)
    shift = (wanted_mean - mean).clip(-LARGEST_SHIFT, LARGEST_SHIFT)
    return _Correction(anchor.frame, gain, mean + shift - mean * gain)


def _moments(picture: Frames) -> tuple[Channels, Channels]:
    values = picture.reshape(-1, 3).astype(np.float64)
    return values.mean(axis=0), values.std(axis=0)


def _is_nothing(correction: _Correction) -> bool:
    """Whether it changes no level."""
    return all(np.abs(level * correction.gain + correction.shift - level).max() < 0.5 for level in (0.0, 255.0))
