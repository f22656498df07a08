"""Convolutions with a quarter, or half, of the products on a CPU: Winograd's F(4×4, 3×3) and F(4, 3), arXiv 1509.09308.

Four places of a result in a row come from six of the maps. Sums of these six are multiplied with sums of the kernel's
three weights, six products for what otherwise takes twelve, and the four are sums of the products. Along height and
width that is 36 products for 144; along a clip's frames 6 for 12.

The sums are a polynomial's values at six points, whose choice decides how many digits get lost: with 0, ±5/8, ±3/2 and
infinity the result is nearly as exact as with all products; with the usual 0, ±1, ±2 and infinity its error would be
twice as large. It's for float32 alone: 16 bits are too few for the sums, and where a processor multiplies bfloat16
twice as fast as float32, converting to that and back costs what is gained.

Legend: n maps, h w height and width, f frames, p places of a frame, i and o channels of the maps and of the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from t2v_core.models import cpu_kernels

_MADE, _SEEN, _TAPS = 4, 6, 3
"""Places that are made at once, those of the maps that they come from, and a kernel's weights along an axis."""

_NEAR, _FAR = 0.625, 1.5
"""The points, but for 0 and infinity; each counts with both signs."""

_SMALL, _LARGE = 24 * 2**20, 96 * 2**20
"""Bytes of the maps' sums that are made at once: what a processor's caches hold, and more where the kernel's sums would
have to be made again for each part."""

_KERNEL_AT_ONCE = 48 * 2**20
"""Bytes of a kernel's sums that are made at once: more go to memory and back before they are multiplied."""

_WORTH_IT = 0.85
"""The share of the usual time that makes it worth it."""


class Costs(NamedTuple):
    """What parts of the work take, in products of the usual way; see benchmarks/layers.py."""

    product: float
    sum: float
    """Along an axis of the maps or of the result, for each place that there will be."""
    weight: float
    """A sum of a kernel's weights, and reading it."""
    calls: float
    """All the small calls together."""


_COSTS, _COSTS_ON_INTEL = Costs(1.1, 90, 35, 60e6), Costs(1.3, 157, 55, 18e6)
"""On Intel's processors all products are faster, so that sums weigh more."""
_COSTS_WITHOUT_AVX512 = _COSTS._replace(weight=110)
"""Products of few rows with a kernel's sums, as small maps have them, are slow there."""


class OverPlaces:
    """A 3×3 convolution of maps padded by one place, with its kernel (o, i, 3, 3) and bias."""

    def __init__(self, kernel: Tensor, bias: Tensor | None) -> None:
        some = max(1, _KERNEL_AT_ONCE // (4 * _SEEN**2 * kernel.shape[1]))
        count = -(-len(kernel) // some)
        # Turned, so that their sums can be multiplied as they lie.
        self._kernels = [rearrange(part, "o i y x -> (y x) i o").contiguous() for part in kernel.chunk(count)]
        self._bias = None if bias is None else bias.float()

    @staticmethod
    def pays(maps: Tensor, *, channels: int) -> bool:
        """Whether maps (n, i, h, w) are convolved to so many channels faster this way."""
        count, before, height, width = maps.shape
        tiles = count * -(-height // _MADE) * -(-width // _MADE)
        products = (_SEEN**2 * tiles, _TAPS**2 * count * height * width)
        return _pays(maps, *products, sums=2 * _MADE**2 * tiles, taps=_SEEN**2, pair=(before, channels))

    def __call__(self, x: Tensor, *, plus: Tensor | None = None) -> Tensor:
        """Channels-last maps (n, i, h, w) to (n, o, h, w), with `plus` of that shape added."""
        channels = sum(kernel.shape[-1] for kernel in self._kernels)
        shape = (len(x), channels, *x.shape[-2:])
        result = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        maps, found = (rearrange(each, "n c h w -> n h w c") for each in (x, result))
        more = None if plus is None else rearrange(plus, "n o h w -> n h w o")
        kept = _sums_of(self._kernels[0], axes=2) if len(self._kernels) == 1 else None
        for some, rows in _parts(maps, bytes_at_once=_LARGE if kept is None else _SMALL):
            sums = _sums_of_tiles(maps[some], rows)
            places = slice(_MADE * rows.start, _MADE * rows.stop)
            out = found[some, places]
            made = _room_for(out, axes=(1, 2))
            tiles, start = made.unflatten(2, (-1, _MADE)).unflatten(1, (-1, _MADE)), 0
            for kernel in self._kernels:
                part = tiles[..., start : (start := start + kernel.shape[-1])]
                _multiply_tiles(sums, _sums_of(kernel, axes=2) if kept is None else kept, out=part)
            del sums
            _finish(made, self._bias, None if more is None else more[some, places], out=out)
        return result

    def unpacked(self) -> Tensor:
        """The kernel (o, i, 3, 3), bit for bit."""
        return rearrange(torch.cat(self._kernels, dim=-1), "(y x) i o -> o i y x", x=_TAPS).contiguous()


class OverFrames:
    """A 3×1 convolution of maps (1, i, f, p) padded by one frame, with its kernel (o, i, 3, 1) and bias."""

    def __init__(self, kernel: Tensor, bias: Tensor | None) -> None:
        self._kernel = rearrange(kernel, "o i f 1 -> f i o").contiguous()
        self._bias = None if bias is None else bias.float()

    @staticmethod
    def pays(maps: Tensor, *, channels: int) -> bool:
        """Whether maps (1, i, f, p) are convolved to so many channels faster this way."""
        count, before, frames, places = maps.shape
        tiles = -(-frames // _MADE) * places
        products = (_SEEN * tiles, _TAPS * frames * places)
        return count == 1 and _pays(maps, *products, sums=_MADE * tiles, taps=_SEEN, pair=(before, channels))

    def __call__(self, x: Tensor, *, plus: Tensor | None = None) -> Tensor:
        """Channels-last maps (1, i, f, p) to (1, o, f, p), with `plus` of that shape added."""
        clip, more = (None if each is None else rearrange(each, "1 c f p -> f p c") for each in (x, plus))
        assert clip is not None
        frames, places, before = clip.shape
        tiles = -(-frames // _MADE)
        kernel = _sums_of(self._kernel, axes=1)
        shape = (1, kernel.shape[-1], frames, places)
        result = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        found = rearrange(result, "1 c f p -> f p c")
        at_once = max(1, _SMALL // (4 * _SEEN * tiles * before))
        for some in cpu_kernels.equal_parts(places, at_once=at_once):
            padded = _padded(clip[:, some], {0: (1, _MADE * tiles + 1 - frames)})
            products = cpu_kernels.multiply_each(_spread(padded, axis=0), kernel)
            made = _room_for(found[:, some], axes=(0,))
            _gather(products, out=made.unflatten(0, (-1, _MADE)).unbind(1))
            _finish(made, self._bias, None if more is None else more[:, some], out=found[:, some])
        return result

    def unpacked(self) -> Tensor:
        """The kernel (o, i, 3, 1), bit for bit."""
        return rearrange(self._kernel, "f i o -> o i f 1").contiguous()


def _pays(maps: Tensor, products: int, usual: int, *, sums: int, taps: int, pair: tuple[int, int]) -> bool:
    """Whether so many products for each pair of channels, with the sums for each channel, take less than the usual."""
    if maps.dtype is not torch.float32:
        return False
    before, after = pair
    pairs = before * after
    costs = _costs()
    takes = (costs.product * products + costs.weight * taps) * pairs + costs.sum * sums * (before + after) + costs.calls
    return takes < _WORTH_IT * usual * pairs


def _costs() -> Costs:
    """What parts of the work take on this processor."""
    if not cpu_kernels.has_avx512():
        return _COSTS_WITHOUT_AVX512
    return _COSTS_ON_INTEL if cpu_kernels.is_intel() else _COSTS


def _parts(maps: Tensor, *, bytes_at_once: int) -> Iterator[tuple[slice, slice]]:
    """Some of the maps (n, h, w, i) with all rows of their tiles, or one of them with some."""
    count, height, width, channels = maps.shape
    rows = -(-height // _MADE)
    at_once = max(1, bytes_at_once // (4 * _SEEN**2 * -(-width // _MADE) * channels))
    if whole := at_once // rows:
        yield from ((some, slice(0, rows)) for some in cpu_kernels.equal_parts(count, at_once=whole))
        return
    for number in range(count):
        yield from ((slice(number, number + 1), some) for some in cpu_kernels.equal_parts(rows, at_once=at_once))


def _padded(values: Tensor, room: dict[int, tuple[int, int]]) -> Tensor:
    """The values with so many zeros before and behind them on some axes."""
    sides = [side for axis in reversed(range(values.ndim)) for side in room.get(axis, (0, 0))]
    return F.pad(values, sides)


def _sums_of_tiles(maps: Tensor, rows: slice) -> Tensor:
    """Of maps (n, h, w, i) the sums along both axes, for some rows of tiles: (6 columns, 6 rows, n, r, across, i)."""
    height, width = maps.shape[1:3]
    first, last = _MADE * rows.start - 1, _MADE * rows.stop + 1
    room = {1: (max(0, -first), max(0, last - height)), 2: (1, -width % _MADE + 1)}
    padded = _padded(maps[:, max(0, first) : last], room)
    return _spread(_spread(padded, axis=1), axis=3)


def _multiply_tiles(sums: Tensor, kernel: Tensor, *, out: Tensor) -> None:
    """Sums of tiles times a kernel's, to (n, rows, 4, across, 4, o)."""
    columns = []
    for maps, weights in zip(sums, kernel, strict=True):
        products = cpu_kernels.multiply_each(maps, weights)
        columns.append(_gather(products, out=[torch.empty_like(products[0]) for _ in range(_MADE)]))
    for row, products in zip(out.unbind(2), zip(*columns, strict=True), strict=True):
        _gather(products, out=row.unbind(3))


def _room_for(out: Tensor, *, axes: tuple[int, ...]) -> Tensor:
    """The result itself, or where it has no whole tiles along the axes, something larger in its place."""
    shape = [-(-size // _MADE) * _MADE if axis in axes else size for axis, size in enumerate(out.shape)]
    return out if list(out.shape) == shape else out.new_empty(shape)


def _finish(made: Tensor, bias: Tensor | None, more: Tensor | None, *, out: Tensor) -> None:
    """Add what is to be added, and put it in its place if it isn't there."""
    kept = made[tuple(map(slice, out.shape))]
    for each in (bias, more):
        if each is not None:
            kept += each
    if made is not out:
        out.copy_(kept)


def _spread(values: Tensor, *, axis: int) -> Tensor:
    """Of each six values along an axis, four on, the sums: (6, ...), with as many along the axis as there are sixes."""
    first, second, third, fourth, fifth, sixth = values.unfold(axis, _SEEN, _MADE).unbind(-1)
    near, far = _NEAR**2, _FAR**2
    result = values.new_empty((_SEEN, *first.shape))
    odd = torch.empty_like(result[0])
    torch.sub(fifth, third, alpha=near + far, out=result[0]).add_(first, alpha=near * far)
    for index, point, other in ((1, _NEAR, far), (3, _FAR, near)):
        plus, minus = result[index], result[index + 1]
        torch.sub(fifth, third, alpha=other, out=plus)
        torch.sub(fourth, second, alpha=other, out=odd)
        torch.sub(plus, odd, alpha=point, out=minus)
        plus.add_(odd, alpha=point)
    torch.sub(sixth, fourth, alpha=near + far, out=result[5]).add_(second, alpha=near * far)
    return result


def _gather(products: Sequence[Tensor], *, out: Sequence[Tensor]) -> Sequence[Tensor]:
    """Four places in a row from their six products, which are used up."""
    low, plus_near, minus_near, plus_far, minus_far, high = products
    near_odd = plus_near - minus_near
    near = plus_near.add_(minus_near)
    far_odd = torch.sub(plus_far, minus_far, out=minus_near)
    far = plus_far.add_(minus_far)
    spare = minus_far
    torch.add(low.add_(near), far, out=out[0])
    torch.add(torch.mul(near_odd, _NEAR, out=spare), far_odd, alpha=_FAR, out=out[1])
    torch.add(torch.mul(near, _NEAR**2, out=spare), far, alpha=_FAR**2, out=out[2])
    torch.add(high.add_(near_odd, alpha=_NEAR**3), far_odd, alpha=_FAR**3, out=out[3])
    return out


def _sums_of(kernel: Tensor, *, axes: int) -> Tensor:
    """Of a kernel (taps, i, o) along one or two axes the sums: (6, i, o) or (6 columns, 6 rows, i, o)."""
    return cpu_kernels.multiply(_matrix(axes), kernel.flatten(1).float()).view(*[_SEEN] * axes, *kernel.shape[1:])


@lru_cache(maxsize=2)
def _matrix(axes: int) -> Tensor:
    """What makes a kernel's sums of its weights, (6, 3) or (36, 9); the columns' sums come first."""
    points = [0.0, _NEAR, -_NEAR, _FAR, -_FAR]
    rows = [
        [point**tap / math.prod(point - other for other in points if other != point) for tap in range(_TAPS)]
        for point in points
    ]
    one = torch.tensor([*rows, [0.0, 0.0, 1.0]], dtype=torch.float64)
    if axes == 1:
        return one.float()
    return rearrange(torch.kron(one, one), "(y x) taps -> (x y) taps", x=_SEEN).float().contiguous()
