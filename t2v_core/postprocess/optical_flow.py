"""Frames in between by optical flow, both ways (OpenCV's DIS, arXiv 1603.03590), splatted to the wanted time.

Legend: flows are (h, w, 2) float32 in pixels, x first; a flow's vector leads from a place in one frame to the same
thing's place in the other.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from t2v_core.postprocess.scene_cuts import small
from t2v_core.video import Frames

Floats = npt.NDArray[Any]

LONGEST_SIDE = 640
"""Pixels at which motion is looked for; a larger frame's is found in a smaller one and scaled."""

_PATCH = 8  # pixels of a side of what is looked for
_SMALLEST_SIDE = 128  # smaller frames are enlarged for the search
_GAIN = 4.0  # how far weak contrast is strengthened: further, and noise would be followed
_SHARPNESS = 0.1  # how much less a place counts, by each level by which its colour in the other frame differs
_MISFIT = 1.5  # pixels by which a place's own motion may miss the one that is asked of it, and still count
_NOTHING = 1e-6
_NEW: Any = None  # OpenCV's word for an array that it shall make


class OpticalFlow:
    """What moves between two frames (h, w, 3) uint8; see `interpolate.Motion`."""

    def __init__(self, first: Frames, second: Frames) -> None:
        self._first, self._second = first, second
        height, width = first.shape[:2]
        scale = min(1.0, LONGEST_SIDE / max(height, width))
        self._size = (max(1, round(width * scale)), max(1, round(height * scale)))
        self._grid = _grid(height, width)

    def unexplained(self) -> float:
        """See `interpolate.Motion`: the worse direction, for the other can push what has gone out of the picture."""
        there = _warped(self._second, self._grid + self._full(self._flows[0]))
        back = _warped(self._first, self._grid + self._full(self._flows[1]))
        misses = (there, self._first), (back, self._second)
        return float(max(np.abs(small(moved) - small(frame)).mean() for moved, frame in misses))

    def between(self, share: float) -> Frames:
        """See `interpolate.Motion`."""
        vector = self._full(self._vector_at(share))
        from_first, from_second = self._grid - share * vector, self._grid + (1 - share) * vector
        first, second = _warped(self._first, from_first), _warped(self._second, from_second)
        # What moves as it is said to counts; what is hidden in one frame is taken from the other.
        one = (1 - share) * self._trust(self._flows[0], vector, from_first)
        other = share * self._trust(-self._flows[1], vector, from_second)
        weight = (one / (one + other + _NOTHING))[..., None]
        return np.clip(first * weight + second * (1 - weight) + 0.5, 0, 255).astype(np.uint8)

    @cached_property
    def _flows(self) -> tuple[Floats, Floats]:
        """From the first to the second and back, at the size of the search."""
        size = self._size
        wanted = min(-(-_SMALLEST_SIDE // min(size)), LONGEST_SIDE // max(size))
        enlarged = max(1, wanted, -(-2 * _PATCH // min(size)))
        searched = (size[0] * enlarged, size[1] * enlarged)
        first, second = _contrasted(_resized(self._first, searched), _resized(self._second, searched))
        with _one_thread:
            search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
            search.setFinestScale(0 if max(searched) <= LONGEST_SIDE // 2 else 1)
            there, back = search.calc(first, second, _NEW), search.calc(second, first, _NEW)
        there, back = (_resized(flow, size) / np.float32(enlarged) for flow in (there, back))
        return there, back

    def _vector_at(self, share: float) -> Floats:
        """For each place at that time, the vector from the first frame to the second of what is there then."""
        first, second = _resized(self._first, self._size), _resized(self._second, self._size)
        there, back = self._flows
        grid = _grid(*there.shape[:2])
        total = np.zeros((*there.shape[:2], 3), np.float32)
        for flow, own, other, part in ((there, first, second, share), (back, second, first, 1 - share)):
            differs = np.abs(own.astype(np.float32) - _warped(other, grid + flow)).mean(axis=-1)
            vector = flow if flow is there else -flow
            total += _splatted(grid + part * flow, vector, (1 - part) * np.exp(-_SHARPNESS * differs) + _NOTHING)
        return _filled(total)

    def _full(self, flow: Floats) -> Floats:
        """A flow at the frames' own size."""
        height, width = self._first.shape[:2]
        if flow.shape[:2] == (height, width):
            return flow
        return _resized(flow, (width, height)) * np.float32(width / flow.shape[1])

    def _trust(self, flow: Floats, vector: Floats, places: Floats) -> Floats:
        """How well a frame's own motion, at the places that are looked at, is the one that is asked for; (h, w)."""
        misfit = _warped(self._full(flow), places) - vector
        return np.exp(-np.square(misfit).sum(axis=-1) / _MISFIT**2) + np.float32(_NOTHING)


class _OneThread:
    """OpenCV's search gives a little different flows by the number of its threads: one, for the same everywhere."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before = 1

    def __enter__(self) -> None:
        self._lock.acquire()
        self._before = cv2.getNumThreads()
        cv2.setNumThreads(1)

    def __exit__(self, *error: object) -> None:
        cv2.setNumThreads(self._before)
        self._lock.release()


_one_thread = _OneThread()


def _contrasted(first: Frames, second: Frames) -> tuple[Floats, Floats]:
    """Both as gray pictures along the line through the colours on which they differ most: equal gray hides no edge."""
    pixels = np.concatenate([frame[::2, ::2].reshape(-1, 3) for frame in (first, second)]).astype(np.float32)
    middle = pixels.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((pixels - middle).T, bias=True))
    line = vectors[:, -1].astype(np.float32)
    line *= np.sign(line.sum()) or 1.0  # either direction would do; the same one everywhere
    along = [(frame.astype(np.float32) - middle) @ line for frame in (first, second)]
    widest = max(float(np.abs(each).max()) for each in along)
    gain = min(_GAIN, 127 / max(widest, _NOTHING))
    one, other = (np.clip(each * gain + 128, 0, 255).astype(np.uint8) for each in along)
    return one, other


def _grid(height: int, width: int) -> Floats:
    """Each place's own x and y, (h, w, 2)."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.stack([x, y], axis=-1)


def _warped(picture: npt.NDArray[Any], places: Floats) -> Floats:
    """What a picture (h, w, c) has at places (h', w', 2); outside it, its edge."""
    return cv2.remap(picture.astype(np.float32), places, _NEW, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _resized(picture: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """A picture (h, w, c) at a size (width, height)."""
    if picture.shape[1::-1] == size:
        return picture
    smaller = size[0] * size[1] < picture.shape[0] * picture.shape[1]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)


def _splatted(places: Floats, vectors: Floats, weights: Floats) -> Floats:
    """Weighted vectors and weights (h, w, 3) where these places lie, shared among the four pixels around each."""
    height, width = weights.shape
    corner = np.floor(places).astype(np.int64)
    beyond = places - corner
    total = np.zeros((height * width, 3), np.float64)
    for down in (0, 1):
        for right in (0, 1):
            x, y = corner[..., 0] + right, corner[..., 1] + down
            share = np.abs(1 - right - beyond[..., 0]) * np.abs(1 - down - beyond[..., 1]) * weights
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            pixel, share = (y * width + x)[inside], share[inside]
            for part in (0, 1):
                total[:, part] += np.bincount(pixel, share * vectors[..., part][inside], height * width)
            total[:, 2] += np.bincount(pixel, share, height * width)
    return total.reshape(height, width, 3).astype(np.float32)


def _filled(total: Floats) -> Floats:
    """The mean vectors (h, w, 2); where nothing came to lie, those around, from ever smaller pictures."""
    sums, weights = total[..., :2], total[..., 2:]
    known = weights / (weights + np.float32(1e-3))
    mean = sums / np.maximum(weights, np.float32(_NOTHING))
    if min(total.shape[:2]) < 2 or float(known.min()) > 0.99:
        return mean
    height, width = total.shape[:2]
    coarse = cv2.resize(total, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
    around = cv2.resize(_filled(coarse), (width, height), interpolation=cv2.INTER_LINEAR)
    return known * mean + (1 - known) * around
