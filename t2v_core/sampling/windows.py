"""Clips longer or larger than a network knows, in overlapping pieces whose estimates are blended at every step.

Windows of frames follow arXiv 2305.13292 (Gen-L-Video) and 2302.08113 (MultiDiffusion); that they move from step to
step, so that no border stays in one place, and round the end of a closed loop, is arXiv 2502.20307's latent shift.

Legend: c channels, f frames, h w latent height and width.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from t2v_core.sampling.denoiser import Denoise
from t2v_core.sampling.schedule import Level, step_of

_GOLDEN = (math.sqrt(5) - 1) / 2
"""Multiples of it, wrapped into 0..1, never come close to those before: how windows move from step to step."""


@dataclass(frozen=True, slots=True)
class Axis:
    """How one axis is cut: into pieces of `size` with `overlap`, or not at all (0). A closed one has no end."""

    size: int = 0
    overlap: int = 0
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of an axis: the indices along it, and what share of each one's value comes from this piece."""

    indices: tuple[int, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Tile:
    """A piece of a clip."""

    frames: Span
    rows: Span
    columns: Span

    def of(self, latents: Tensor) -> Tensor:
        """This piece (1, c, f', h', w') of latents (1, c, f, h, w)."""
        return latents[:, :, list(self.frames.indices)][..., _slice(self.rows), _slice(self.columns)]

    def add(self, part: Tensor, total: Tensor) -> None:
        """Add this piece's share to the whole."""
        shares = (torch.tensor(span.shares, device=part.device) for span in (self.frames, self.rows, self.columns))
        for shape, share in zip(((-1, 1, 1), (-1, 1), (-1,)), shares, strict=True):
            part = part * share.view(shape)
        index = torch.tensor(self.frames.indices, device=part.device)
        total[..., _slice(self.rows), _slice(self.columns)].index_add_(2, index, part)


@dataclass(frozen=True, slots=True)
class Cut:
    """How clips are cut along their frames, rows and columns."""

    frames: Axis = Axis()
    rows: Axis = Axis()
    columns: Axis = Axis()

    def tiles(self, shape: Sequence[int], *, step: int) -> tuple[Tile, ...]:
        """The pieces of latents of a shape (..., f, h, w) in a sampling step; at each place their shares are 1 in all.

        Raises:
            ValueError: an axis' pieces aren't longer than their overlap.
        """
        axes = zip(shape[-3:], (self.frames, self.rows, self.columns), strict=True)
        return tuple(Tile(*spans) for spans in product(*(cut(length, axis, step=step) for length, axis in axes)))

    def passes(self, shape: Sequence[int]) -> float:
        """How much more the network works than for the clip in one piece, about."""
        frames, rows, columns = shape[-3:]
        pieces = self.tiles(shape, step=1)
        work = sum(len(t.frames.indices) * len(t.rows.indices) * len(t.columns.indices) for t in pieces)
        return work / (frames * rows * columns)


@functools.lru_cache(maxsize=64)
def cut(length: int, axis: Axis, *, step: int) -> tuple[Span, ...]:
    """The pieces of an axis of this length in a sampling step.

    Raises:
        ValueError: the pieces aren't longer than their overlap.
    """
    size, stride = min(axis.size or length, length), axis.size - axis.overlap
    if axis.size and stride < 1:
        raise ValueError(f"pieces of {axis.size} can't overlap by {axis.overlap}")
    shift = (step * _GOLDEN) % 1.0
    if axis.closed:
        count = math.ceil(length / stride) if size < length else 1
        starts = [round((index + shift) * length / count) for index in range(count)]
    elif size == length:
        starts = [0]
    else:
        starts = _starts(length - size, stride, shift=round(shift * stride), longest=size - axis.overlap // 2)
    pieces = [tuple((start + index) % length for index in range(size)) for start in starts]
    return _with_shares(pieces, length)


def _starts(last: int, stride: int, *, shift: int, longest: int) -> list[int]:
    """Where the pieces of an open axis begin, 0 and `last` among them; those that a shift makes needless are left out.

    Without one its neighbours still overlap, for they're at most `longest` apart.
    """
    starts = sorted({min(max(0, start), last) for start in range(-shift, last + stride, stride)})
    kept = starts[:1]
    for here, there in zip(starts[1:], [*starts[2:], None], strict=True):
        if there is None or there - kept[-1] > longest:
            kept.append(here)
    return kept


def _with_shares(pieces: Sequence[tuple[int, ...]], length: int) -> tuple[Span, ...]:
    """A piece counts most in its middle, where its estimate knows what comes before and after."""
    sums = [0.0] * length
    weights = [min(index + 1, len(pieces[0]) - index) for index in range(len(pieces[0]))]
    for piece in pieces:
        for place, weight in zip(piece, weights, strict=True):
            sums[place] += weight
    return tuple(
        Span(piece, tuple(weight / sums[place] for place, weight in zip(piece, weights, strict=True)))
        for piece in pieces
    )


def in_tiles(denoiser: Callable[[Tile], Denoise], cut: Cut, levels: Sequence[Level]) -> Denoise:
    """A denoiser of whole clips by one that knows pieces; only one piece is worked on at a time."""

    def denoise(latents: Tensor, level: Level) -> Tensor:
        tiles = cut.tiles(latents.shape, step=step_of(level, levels))
        if len(tiles) == 1 and tiles[0].frames.indices[0] == 0:  # nothing is cut or turned
            return denoiser(tiles[0])(latents, level)
        total = torch.zeros_like(latents)
        for tile in tiles:
            tile.add(denoiser(tile)(tile.of(latents), level), total)
        return total

    return denoise


def _slice(span: Span) -> slice:
    return slice(span.indices[0], span.indices[-1] + 1)
