"""Where another scene begins: a sudden change that motion doesn't explain."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from t2v_core.video import Frames

SIDE = 48
"""Pixels of the longer side at which frames are compared: enough for scenes, too few for noise and grain."""

LEAST = 2.0
"""Levels, 0 to 255, by which frames of different scenes differ on average at least."""

SUDDEN = 2.5
"""How many times the change before or after it a cut's is at least: fast motion goes on, a cut is one moment."""

UNEXPLAINED = 0.5
"""The share of the change that is left, over a cut, when the motion found is taken away."""


def is_cut(change: float, neighbours: Sequence[float], *, unexplained: Callable[[], float]) -> bool:
    """Whether a change, 0 to 255, is a cut, by the changes right before and after; `unexplained` is what is costly."""
    if change < LEAST or (neighbours and change < SUDDEN * min(neighbours)):
        return False
    return unexplained() > UNEXPLAINED * change


def change(first: Frames, second: Frames) -> float:
    """How much two frames (h, w, 3) differ: mean over a small picture, 0 to 255."""
    return float(np.abs(small(first) - small(second)).mean())


def small(frame: Frames) -> npt.NDArray[np.float32]:
    """A frame, uint8 or float, as means over square blocks, (h / k, w / k, 3)."""
    height, width, _ = frame.shape
    block = max(1, -(-max(height, width) // SIDE))
    down, right = min(block, height), min(block, width)
    rows, columns = height // down, width // right
    whole = frame[: rows * down, : columns * right]
    return whole.reshape(rows, down, columns, right, 3).mean(axis=(1, 3), dtype=np.float32)
