"""A convolution of small maps on a CPU: a packed product for each place of its kernel."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from t2v_core.models.cpu_kernels import Packed, Pair, pair
from t2v_core.models.room import room

_IN_CACHE = 2**19
"""Bytes that a core's own cache holds for sure."""


class ByTaps:
    """A convolution as a product for each of its kernel's places, of those places alone that have such a neighbour.

    Small maps are mostly edge: of the nine neighbours of a 2×2 map's places five are padding, which is multiplied
    otherwise. The kernel (o, i, h, w) must be larger than twice the padding.
    """

    def __init__(
        self,
        kernel: Tensor,
        bias: Tensor | None,
        *,
        padding: Pair = 0,
        stride: Pair = 1,
        computes: torch.dtype | None = None,
    ) -> None:
        self._size, self._padding, self._stride = tuple(kernel.shape[2:]), pair(padding), pair(stride)
        matrices = dict(zip(itertools.product(*map(range, self._size)), _by_tap(kernel), strict=True))
        # Every place has the neighbour that is itself, with which the sum begins.
        self._taps = {
            tap: Packed(matrices[tap], bias if tap == self._padding else None, computes=computes)
            for tap in sorted(matrices, key=lambda tap: tap != self._padding)
        }

    def __call__(self, x: Tensor, *, plus: Tensor | None = None) -> Tensor:
        """Channels-last maps (n, i, h, w) to (n, o, h', w'), with `plus` of that shape added."""
        maps, more = (None if each is None else rearrange(each, "n c h w -> n h w c") for each in (x, plus))
        assert maps is not None
        (_, itself), *others = self._taps.items()
        own = maps[:, :: self._stride[0], :: self._stride[1]]
        if not others:
            return rearrange(itself(own, plus=more), "n h w o -> n o h w")
        sizes = convolved(x.shape[-2:], self._size, padding=self._padding, stride=self._stride)
        found = itself(own[:, : sizes[0], : sizes[1]]).float()
        for tap, product in others:
            rows, columns = map(self._of_tap, (0, 1), tap, x.shape[-2:], sizes)
            seen = maps[:, rows.seen, columns.seen]
            if seen.numel():
                found[:, rows.made, columns.made] += product(seen)
        if more is not None:
            found += more
        return rearrange(found.to(x.dtype), "n h w o -> n o h w")

    def _of_tap(self, axis: int, tap: int, seen: int, made: int) -> _Reach:
        """The places of the maps that lie under a kernel's place along an axis, and those of the result."""
        shift, stride = tap - self._padding[axis], self._stride[axis]
        first = max(0, -(shift // stride))
        last = min(made, (seen - 1 - shift) // stride + 1)
        start = first * stride + shift
        return _Reach(slice(start, max(start, (last - 1) * stride + shift + 1), stride), slice(first, last))

    def unpacked(self) -> Tensor:
        """The kernel (o, i, h, w), bit for bit."""
        taps = [self._taps[tap].unpacked() for tap in sorted(self._taps)]
        return torch.stack(taps, dim=-1).unflatten(-1, self._size)


def _by_tap(kernel: Tensor) -> Tensor:
    """A kernel (o, i, h, w) as (h·w, o, i), in memory that is there for a moment."""
    taps = kernel.flatten(2).permute(2, 0, 1)
    if len(taps) == 1:
        return taps
    result = room(taps.shape, taps.dtype, kind="gathered")
    # The numbers of a tap lie far apart: of some rows at a time they are in the processor's cache for all taps.
    at_once = max(1, _IN_CACHE // kernel[0].nbytes)
    for rows, found in zip(taps.split(at_once, dim=1), result.split(at_once, dim=1), strict=True):
        found.copy_(rows)
    return result


class _Reach(NamedTuple):
    """Places of the maps, and what they add to."""

    seen: slice
    made: slice


def convolved(
    size: Sequence[int], kernel: Sequence[int], *, padding: Sequence[int], stride: Sequence[int]
) -> tuple[int, int]:
    """The height and width that a convolution makes of these."""
    height, width = ((size[axis] + 2 * padding[axis] - kernel[axis]) // stride[axis] + 1 for axis in (0, 1))
    return height, width
