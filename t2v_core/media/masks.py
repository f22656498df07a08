"""Where a clip may change: from a picture or a video that marks it, made larger or smaller, and soft at its edge.

Marks are uint8, 255 for marked; (n, H, W) for n frames. Growing and feathering measure distance by turns along rows and
columns and along diagonals too, which makes octagons of circles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from t2v_core.media.stored_frames import StoredFrames
from t2v_core.video import Frames

Marks = npt.NDArray[np.uint8]

ALMOST = 16
"""Levels by which compression blurs a mask's black and white: so near to them is meant as them."""


@dataclass(frozen=True, slots=True)
class Edge:
    """`grow` the marked region by pixels (below 0 shrink it), `keeps` it instead of changing it, then `feather`."""

    grow: int = 0
    feather: int = 0
    keeps: bool = False


def changeable(marks: Marks, edge: Edge) -> Marks:
    """Where the clip may change, 255 for wholly, from what is marked.

    The feather lies inside: what isn't marked is 0 and stays exactly, whatever the feather.
    """
    region = _snapped(marks)
    for turn in range(abs(edge.grow)):
        region = _spread(region, diagonally=turn % 2 == 1) if edge.grow > 0 else _shrunk(region, turn)
    if edge.keeps:
        region = 255 - region
    if not edge.feather or not region.any():
        return region
    total, inner = region.astype(np.uint32), region
    for turn in range(edge.feather):
        inner = _shrunk(inner, turn)
        total += inner
    return (total / (edge.feather + 1)).round().astype(np.uint8)


class StoredMask:
    """The frames of a mask video, (f, H, W) float32 in 0..1, read in pieces from where they are stored."""

    def __init__(self, stored: StoredFrames) -> None:
        self._stored = stored

    @property
    def shape(self) -> tuple[int, ...]:
        """(f, H, W)."""
        return self._stored.shape[:3]

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: slice, /) -> npt.NDArray[np.float32]:
        return as_shares(self._stored[index][..., 0])


def as_shares(marks: Marks) -> npt.NDArray[np.float32]:
    """0..255 as 0..1."""
    return np.divide(marks, np.float32(255), dtype=np.float32)


def light_of(frames: Frames) -> Marks:
    """How light each place of RGB frames (n, H, W, 3) is, (n, H, W), as the eye weighs it."""
    red, green, blue = (frames[..., channel].astype(np.uint32) for channel in range(3))
    return ((red * 299 + green * 587 + blue * 114 + 500) // 1000).astype(np.uint8)


def as_frames(marks: Marks) -> Frames:
    """Marks as grey frames, to be stored."""
    return np.repeat(marks[..., None], 3, axis=-1)


def _snapped(marks: Marks) -> Marks:
    return np.where(marks < ALMOST, np.uint8(0), np.where(marks > 255 - ALMOST, np.uint8(255), marks))


def _spread(region: Marks, *, diagonally: bool) -> Marks:
    """Each place takes the most marked of its neighbours; beyond the border lies what lies at it."""
    padded = np.pad(region, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])  # of each column
    if diagonally:
        return np.maximum(np.maximum(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:])
    across = np.maximum(padded[:, 1:-1, :-2], padded[:, 1:-1, 2:])
    return np.maximum(rows[..., 1:-1], across)


def _shrunk(region: Marks, turn: int) -> Marks:
    return 255 - _spread(255 - region, diagonally=turn % 2 == 1)
