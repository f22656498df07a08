"""The 255 colors that suit a clip best, and each of its frames in them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from t2v_core.media.stored_frames import in_chunks
from t2v_core.video import Frames, FrameSource

COLORS = 255
"""One index of the 256 is left for pixels that stay as they were."""

_MOSAIC_FRAMES = 24
_MOSAIC_PIXELS = 100_000
_ROUNDS = 6

# The nearest color is looked for among those that are near the cell of 8 levels a side in which a pixel lies. Where the
# dither is wider than that, the color nearest to the middle of a cell of 4 levels will do for all of the cell.
_COARSE, _FINE = 3, 2  # bits
_CANDIDATES = 12
_AT_ONCE = 16_384  # pixels or cells

# Thresholds of an ordered dither, between -1/2 and 1/2: unlike errors that are handed on, they stand still in time.
_BAYER = np.array([[0]])
for _ in range(3):
    _BAYER = np.block([[4 * _BAYER, 4 * _BAYER + 2], [4 * _BAYER + 3, 4 * _BAYER + 1]])
_BAYER = (_BAYER + 0.5) / _BAYER.size - 0.5

_WIDEST = 48.0
_SHARE_OF_ERROR = 3.0
"""Levels that the dither is wide, at most, and for each level that a pixel is off on average."""

Colors = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Palette:
    """Colors (n, 3) with n at most 255. `is_exact` says that the clip has no others.

    `spread` is how many levels the dither is wide where a pixel's color isn't among them. `near` are the colors near
    each cell, (cells, candidates), `nearest` the one nearest to each finer cell, where the dither is wide enough.
    """

    colors: Colors
    is_exact: bool
    spread: float = 0.0
    near: Colors = field(default_factory=lambda: np.empty((0, 0), np.uint8), repr=False)
    nearest: Colors | None = field(default=None, repr=False)

    @property
    def table(self) -> bytes:
        """768 bytes: 256 colors, the last ones black."""
        return self.colors.tobytes().ljust(768, b"\0")

    @property
    def unused(self) -> int:
        """An index that `indices` never gives."""
        return COLORS

    def indices(self, frame: Frames) -> npt.NDArray[np.uint8]:
        """Which color each pixel of a frame (h, w, 3) gets, (h, w). What has its own color isn't dithered."""
        height, width, _ = frame.shape
        known, packed = _packed(self.colors), _packed(frame)
        order = np.argsort(known, kind="stable")
        place = np.minimum(np.searchsorted(known, packed, sorter=order), len(known) - 1)
        found = order[place].astype(np.uint8)
        if self.is_exact:
            return found
        off = known[found] != packed
        pattern = np.round(_BAYER * self.spread).astype(np.int16)
        pattern = np.tile(pattern, (-(-height // 8), -(-width // 8)))[:height, :width]
        dithered = np.clip(frame[off].astype(np.int16) + pattern[off][:, None], 0, 255).astype(np.uint8)
        found[off] = self._nearest(dithered) if self.nearest is None else self.nearest[_cell(dithered, _FINE)]
        return found

    def _nearest(self, pixels: Colors) -> npt.NDArray[np.uint8]:
        found = np.empty(len(pixels), np.uint8)
        colors = self.colors.astype(np.int16)
        for start in range(0, len(pixels), _AT_ONCE):
            some = pixels[start : start + _AT_ONCE]
            candidates = self.near[_cell(some, _COARSE)]
            away = colors[candidates] - some[:, None].astype(np.int16)
            best = np.einsum("nkc,nkc->nk", away, away, dtype=np.int32).argmin(axis=1)
            found[start : start + _AT_ONCE] = candidates[np.arange(len(some)), best]
        return found


def palette_of(frames: FrameSource) -> Palette:
    """The clip's own colors if they are few enough, else those that stand for the most of it."""
    mosaic = _mosaic(frames)
    few = np.unique(_packed(mosaic))
    if len(few) <= COLORS:
        for chunk in in_chunks(frames):
            few = np.union1d(few, _packed(chunk))
            if len(few) > COLORS:
                break
        else:
            return Palette(_unpacked(few), is_exact=True)
    pixels = mosaic.reshape(-1, 3)
    palette = _with_colors(_centers(pixels, _first_guess(mosaic)))
    error = np.abs(palette.colors[palette._nearest(pixels)].astype(np.int16) - pixels).mean()
    spread = min(_WIDEST, _SHARE_OF_ERROR * float(error))
    cells = palette._nearest(_middles(_FINE).astype(np.uint8)) if spread >= 1 << _COARSE else None
    return dataclasses.replace(palette, spread=spread, nearest=cells)


def _first_guess(mosaic: Frames) -> Colors:
    """By Pillow's median cut, which leaves room for what is rare."""
    quantized = Image.fromarray(mosaic).quantize(COLORS, method=Image.Quantize.MEDIANCUT)
    return np.frombuffer(bytes(quantized.getpalette() or []), np.uint8).reshape(-1, 3)[:COLORS]


def _centers(pixels: Colors, colors: Colors) -> Colors:
    """The colors, each moved to the middle of the pixels that are nearest to it, some times over (Lloyd's algorithm).

    In the end a color becomes the one that most of its pixels have, if there is such a one: plain areas are exact.
    """
    values = pixels.astype(np.float32)
    centers = colors.astype(np.float32)
    owner = np.zeros(len(values), np.intp)
    for _ in range(_ROUNDS):
        for start in range(0, len(values), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            owner[some] = ((centers**2).sum(axis=1) - 2 * values[some] @ centers.T).argmin(axis=1)
        counts = np.bincount(owner, minlength=len(centers))[:, None]
        sums = np.stack([np.bincount(owner, values[:, c], minlength=len(centers)) for c in range(3)], axis=1)
        centers = np.where(counts > 0, sums / np.maximum(counts, 1), centers).astype(np.float32)
    moved = np.round(centers).astype(np.uint8)
    packed, which, counts = np.unique(_packed(pixels), return_inverse=True, return_counts=True)
    owners = np.zeros(len(packed), np.intp)
    owners[which.reshape(-1)] = owner
    sizes = np.bincount(owner, minlength=len(centers))
    for place in np.flatnonzero(2 * counts > sizes[owners]):
        moved[owners[place]] = _unpacked(packed[place])
    return moved


def _with_colors(colors: Colors) -> Palette:
    """A palette of these colors, with those nearest to the middle of each cell."""
    values, wanted = colors.astype(np.float32), min(_CANDIDATES, len(colors))
    middles = _middles(_COARSE)
    near = np.empty((len(middles), wanted), np.uint8)
    for start in range(0, len(middles), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        away = (values**2).sum(axis=1) - 2 * middles[some] @ values.T
        near[some] = np.argpartition(away, wanted - 1, axis=1)[:, :wanted]
    return Palette(colors, is_exact=False, near=near)


def _middles(bits: int) -> npt.NDArray[np.float32]:
    """The middle of each cell of so many bits a side, (cells, 3), in the order of `_cell`."""
    middles = (np.arange(256 >> bits, dtype=np.float32) + 0.5) * (1 << bits) - 0.5
    return np.stack(np.meshgrid(middles, middles, middles, indexing="ij"), axis=-1).reshape(-1, 3)


def _cell(pixels: Colors, bits: int) -> npt.NDArray[np.intp]:
    red, green, blue = (pixels[:, channel].astype(np.intp) >> bits for channel in range(3))
    return red << 2 * (8 - bits) | green << (8 - bits) | blue


def _mosaic(frames: FrameSource) -> Frames:
    """Some frames of a clip under each other, (h, w, 3), thinned out if they are large."""
    count, height, width, _ = frames.shape
    numbers = np.unique(np.linspace(0, count - 1, min(count, _MOSAIC_FRAMES)).round().astype(int)).tolist()
    step = max(1, round((len(numbers) * height * width / _MOSAIC_PIXELS) ** 0.5))
    return np.concatenate([frames[number : number + 1][0, ::step, ::step] for number in numbers])


def _packed(colors: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    wide = colors.astype(np.uint32)
    return np.bitwise_or(np.bitwise_or(wide[..., 0] << 16, wide[..., 1] << 8), wide[..., 2]).astype(np.uint32)


def _unpacked(packed: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1).astype(np.uint8)
