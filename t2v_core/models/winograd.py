"""3×3 convolutions with 4/9 of the products, in float32 on a CPU: Winograd's F(2×2, 3×3), arXiv 1509.09308.

Each 2×2 places of the result come from a tile of 4×4 places of the maps. Sums and differences of the tile's rows and
columns are multiplied with such of the kernel's, which takes sixteen products for the four places instead of nine for
each. The result stays within 1e-6 of the exact one, relative; in 16 bits the sums would lose digits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from t2v_core.models import cpu_kernels

_BYTES_AT_ONCE = 64 * 2**20
"""The tiles that go at once and their products take at most this, in or near a processor's caches."""

_FEWEST_TILES, _FEWEST_CHANNELS = 256, 256
"""With less, turning kernel and tiles takes longer than the products that it saves; see benchmarks/layers.py."""

_OF_ONE_AXIS = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
_OF_A_KERNEL = torch.kron(_OF_ONE_AXIS, _OF_ONE_AXIS)
"""The sixteen sums of a kernel's nine weights, (16, 9)."""


def pays(maps: Tensor, *, channels: int) -> bool:
    """Whether maps (n, i, h, w) are convolved to so many channels faster this way than with all products."""
    count, before, height, width = maps.shape
    if maps.dtype is not torch.float32 or height % 2 or width % 2 or min(before, channels) < _FEWEST_CHANNELS:
        return False
    return count * height * width // 4 >= _FEWEST_TILES and _maps_at_once(maps, channels=channels) > 0


def convolve(maps: Tensor, kernel: Tensor, bias: Tensor | None, *, plus: Tensor | None = None) -> Tensor:
    """Channels-last maps (n, i, h, w) of even height and width, padded by one place, to (n, o, h, w).

    `kernel` is (o, i, 3, 3), and `plus`, of the result's shape, is added.
    """
    count, _, height, width = maps.shape
    sums = cpu_kernels.linear(_OF_A_KERNEL, kernel.reshape(-1, 9), None).view(4, 4, *kernel.shape[:2])
    shape = (count, kernel.shape[0], height, width)
    result = torch.empty(shape, dtype=maps.dtype, memory_format=torch.channels_last)
    some = max(1, _maps_at_once(maps, channels=len(kernel)))
    for start in range(0, count, some):
        part = slice(start, start + some)
        _convolve(maps[part], sums, bias, found=result[part])
        if plus is not None:
            result[part] += plus[part]
    return result


def _maps_at_once(maps: Tensor, *, channels: int) -> int:
    _, before, height, width = maps.shape
    values = 16 * height * width // 4 * (before + channels)
    return _BYTES_AT_ONCE // (values * maps.element_size())


def _convolve(maps: Tensor, sums: Tensor, bias: Tensor | None, *, found: Tensor) -> None:
    places, found = (rearrange(each, "n c h w -> n h w c") for each in (maps, found))
    tiles = _differences(_differences(F.pad(places, (0, 0, 1, 1, 1, 1)), axis=1), axis=3)  # of columns, rows
    columns = []
    for column in range(4):
        products = [
            # All four places have this product in their sums, and so the bias.
            cpu_kernels.linear(tiles[column, row], sums[row, column], bias if row == column == 1 else None)
            for row in range(4)
        ]
        columns.append(_sums(*products, out=(products[0], products[3])))
    for row, products in enumerate(zip(*columns, strict=True)):
        _sums(*products, out=(found[:, row::2, 0::2], found[:, row::2, 1::2]))


def _differences(places: Tensor, *, axis: int) -> Tensor:
    """Of each four places along an axis, every other place on, what is multiplied with a kernel's sums: (4, ...)."""
    even, odd = (places.unflatten(axis, (places.shape[axis] // 2, 2)).select(axis + 1, parity) for parity in (0, 1))
    count = even.shape[axis] - 1
    (first, third), (second, fourth) = (
        (each.narrow(axis, 0, count), each.narrow(axis, 1, count)) for each in (even, odd)
    )
    result = places.new_empty(4, *first.shape)
    torch.sub(first, third, out=result[0])
    torch.add(second, third, out=result[1])
    torch.sub(third, second, out=result[2])
    torch.sub(second, fourth, out=result[3])
    return result


def _sums(
    first: Tensor, second: Tensor, third: Tensor, fourth: Tensor, *, out: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Two places of the result along an axis from four products, of which those in the middle are used up."""
    first.add_(second)
    fourth.add_(third)
    return torch.add(first, third, out=out[0]), torch.sub(second, fourth, out=out[1])
