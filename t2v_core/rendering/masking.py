"""Outside a mask the source comes back as it was, pixel for pixel, whatever the autoencoder made of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from t2v_core.rendering.given import Given
from t2v_core.video import Frames

PutBack = Callable[[Frames, int], Frames]
"""Some decoded frames (n, H, W, 3) uint8 and the number of the first to the same with what must not have changed."""


def putting_back(given: Given) -> PutBack:
    """What is to be done to the frames of a clip that is made from this."""
    if given.clip is None or given.mask is None:
        return lambda frames, start: frames
    clip, mask = given.clip, given.mask

    def put_back(frames: Frames, start: int) -> Frames:
        span = slice(start, start + len(frames))
        share = mask[span] if len(mask) > 1 else mask[:1]
        return blended(clip[span], frames, share[..., None])

    return put_back


def blended(old: Frames, new: Frames, share: np.ndarray) -> Frames:
    """`share` (float32, 0..1) of the new and the rest of the old frames; where it is 0 or 1, one of them exactly."""
    mixed = old + (new.astype(np.float32) - old) * share
    return np.rint(mixed).astype(np.uint8)
