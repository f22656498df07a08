"""oneDNN's products with packed weights, for networks on a CPU.

torch turns a layer's weights into the processor's order again in every call, and in float32 takes another library that
is slow on some processors. Packed once they stay so, in the place of the plain ones; what follows a product is done in
the same pass. The operators are torch's own, but not documented: each is checked before it is used.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2v_core.models import processor
from t2v_core.models.narrow import Narrow
from t2v_core.models.room import room

Pair = int | tuple[int, int]
"""What goes for the height and the width, or for one of them each."""

_MULTIPLIED = {
    torch.float32: "",
    torch.bfloat16: "_is_mkldnn_bf16_supported",
    torch.float16: "_is_mkldnn_fp16_supported",
}
"""The formats that oneDNN may multiply, and the operator that says whether it does here."""

_BY_PRODUCTS = 0
"""torch's number for attention without a fused kernel."""

_WIDENED_AT_ONCE = 16 * 2**20
"""Bytes of a narrow kernel that are widened at once."""

_USUAL_MAPS = 16, (32, 32)
"""How many maps of which size a kernel is packed for where nobody says."""


class Packed:
    """A matrix (o, i) and its bias, as oneDNN wants them; `unpacked` gives the exact matrix back.

    `computes` is the format of what it's multiplied with, where that is wider than its own.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, computes: torch.dtype | None = None) -> None:
        computes = computes or weight.dtype
        self._weight = _kept(_ops()._reorder_linear_weight(_widened(weight, computes), None), weight.dtype)
        self._bias = None if bias is None else bias.to(computes)

    def __call__(self, x: Tensor, *, plus: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """x (..., i) times the matrix, and `plus` (..., o) added; (..., o), which goes into `out` if there is one."""
        with _wide(self._weight) as weight:
            return linear(x, weight, self._bias, plus=plus, out=out)

    def gelu(self, x: Tensor) -> Tensor:
        """An exact GELU of the product."""
        if not has_avx512():
            return torch.ops.aten.gelu_.default(self(x))
        with _wide(self._weight) as weight:
            return _ops()._linear_pointwise.default(x, weight, self._bias, "gelu", [], "none")

    def times(self, x: Tensor, factor: Tensor) -> Tensor:
        """The product, multiplied by a tensor of its shape."""
        if not joins_passes():
            return self(x).mul_(factor)
        with _wide(self._weight) as weight:
            return _ops()._linear_pointwise.binary(x, factor, weight, self._bias, "mul")

    def unpacked(self) -> Tensor:
        """The matrix (o, i), bit for bit."""
        return _plain(self._weight)


def _widened(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A weight as one piece, and in a wider format in memory that is there for a moment."""
    return weight.contiguous() if weight.dtype is dtype else room(weight.shape, dtype, kind="widened").copy_(weight)


def _kept(packed: Tensor, dtype: torch.dtype) -> Tensor | Narrow:
    """A packed weight, with its numbers in the format that they came in."""
    return packed if packed.dtype is dtype else Narrow(packed, dtype)


def _wide(weight: Tensor | Narrow) -> contextlib.AbstractContextManager[Tensor]:
    """Within the block the packed weight in the format that it's multiplied in."""
    return weight.wide() if isinstance(weight, Narrow) else contextlib.nullcontext(weight)


def _plain(weight: Tensor | Narrow) -> Tensor:
    """The numbers of a packed weight as they came."""
    if not isinstance(weight, Narrow):
        return weight.to_dense()
    with weight.wide() as packed:
        return packed.to_dense().to(weight.dtype)


class Form(Protocol):
    """A convolution's kernel (o, i, h, w) and bias, as one of several ways to compute it wants them."""

    def __call__(self, x: Tensor, *, plus: Tensor | None = None) -> Tensor:
        """Channels-last maps (n, i, h, w) to (n, o, h', w'), with `plus` of that shape added."""
        ...

    def unpacked(self) -> Tensor:
        """The kernel (o, i, h, w), bit for bit."""
        ...


class PackedConv:
    """A convolution's kernel (o, i, h, w) and its bias, in the order that oneDNN wants for maps of the last size seen.

    In another order oneDNN would turn the kernel in every call, which can take ten times as long as the convolution.
    The first maps to expect are (n, i, h, w) `maps`. Where the kernel is narrower than what they are in, `computes`,
    it's widened for some of their channels after the others.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        padding: Pair = 0,
        stride: Pair = 1,
        maps: torch.Size | None = None,
        computes: torch.dtype | None = None,
    ) -> None:
        self._computes = computes or weight.dtype
        self._geometry = (pair(padding), pair(stride), (1, 1), 1)  # no dilation, one group
        self.is_in_order = _has_one_order(channels=weight.shape[0])
        """Whether its order holds for all maps, so that their size needn't be looked at."""
        self._bias = None if bias is None else bias.to(self._computes)
        count, size = _USUAL_MAPS
        self._pack(weight, for_maps=maps or torch.Size((count, weight.shape[1], *size)))

    def _pack(self, weight: Tensor, *, for_maps: torch.Size) -> None:
        is_narrow = weight.dtype is not self._computes
        self._at_once = widened_at_once(weight, self._computes) if is_narrow else weight.shape[1]
        self._weights = [self._packed(part, for_maps) for part in weight.split(self._at_once, dim=1)]
        self._maps = for_maps

    def _packed(self, part: Tensor, maps: torch.Size) -> Tensor | Narrow:
        seen = (maps[0], part.shape[1], *maps[2:])
        wide = _widened(part, self._computes)
        return _kept(_ops()._reorder_convolution_weight(wide, *self._geometry, seen), part.dtype)

    def __call__(self, x: Tensor, *, plus: Tensor | None = None) -> Tensor:
        """Feature maps (n, i, h, w) in channels-last memory to (n, o, ...), with `plus` of that shape added."""
        if x.shape != self._maps and not self.is_in_order:
            self._pack(self.unpacked(), for_maps=x.shape)
        if len(self._weights) == 1:
            return self._convolve(x, self._weights[0], self._bias, plus=plus)
        found, bias = plus, self._bias
        for some, weight in zip(x.split(self._at_once, dim=1), self._weights, strict=True):
            maps = some.contiguous(memory_format=torch.channels_last)
            found, bias = self._convolve(maps, weight, bias, plus=found), None
        assert found is not None
        return found

    def _convolve(self, x: Tensor, weight: Tensor | Narrow, bias: Tensor | None, *, plus: Tensor | None) -> Tensor:
        if plus is not None and not joins_passes():
            return self._convolve(x, weight, bias, plus=None).add_(plus)
        with _wide(weight) as kernel:
            if plus is None:
                return _ops()._convolution_pointwise.default(x, kernel, bias, *self._geometry, "none", [], "")
            return _ops()._convolution_pointwise.binary(
                x, plus, kernel, bias, *self._geometry, "add", None, None, [], None
            )

    def unpacked(self) -> Tensor:
        """The kernel (o, i, h, w), bit for bit."""
        parts = [_plain(weight) for weight in self._weights]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def widened_at_once(kernel: Tensor, computes: torch.dtype) -> int:
    """For how many of the channels that come in a kernel (o, i, ...) is widened to `computes` at once."""
    parts = -(-kernel.numel() * computes.itemsize // _WIDENED_AT_ONCE)
    return -(-kernel.shape[1] // parts)


def equal_parts(count: int, *, at_once: int) -> Iterator[slice]:
    """As few parts as there must be, for a small one at the end takes longer than its share."""
    size = -(-count // -(-count // at_once))
    return (slice(start, min(count, start + size)) for start in range(0, count, size))


def joined(matrices: Sequence[Tensor]) -> Tensor:
    """The rows of some matrices (o, i) one after the other, in memory that is there for a moment."""
    shape = (sum(map(len, matrices)), *matrices[0].shape[1:])
    return torch.cat(tuple(matrices), out=room(shape, matrices[0].dtype, kind="gathered"))


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, plus: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """A linear layer by oneDNN; the weight may be packed or plain. The result goes into `out` if there is one."""
    if plus is not None and joins_passes():
        found = _ops()._linear_pointwise.binary(x, plus, weight, bias, "add")
    else:
        found = _ops()._linear_pointwise.default(x, weight, bias, "none", [], "")
        if plus is not None:
            return torch.add(found, plus, out=found if out is None else out)
    return found if out is None else out.copy_(found)


def multiply(matrix: Tensor, other: Tensor) -> Tensor:
    """(m, k) times (k, n) in float32, by the library that is faster here."""
    return torch.mm(matrix, other) if is_intel() else linear(matrix, other.t(), None)


def multiply_each(matrices: Tensor, others: Tensor) -> Sequence[Tensor]:
    """Some (..., k) times as many (k, n) in float32, by the library that is faster here."""
    if is_intel():
        found = torch.bmm(matrices.flatten(1, -2), others)
        return found.view(*matrices.shape[:-1], -1).unbind(0)
    return [linear(matrix, other.t(), None) for matrix, other in zip(matrices, others, strict=True)]


@functools.lru_cache(maxsize=1)
def is_intel() -> bool:
    """Whether Intel made this processor: torch's usual library for products in float32, MKL, is theirs.

    There it is as fast as oneDNN or faster, elsewhere half as fast.
    """
    return processor.is_by_intel() and torch.backends.mkl.is_available()


@functools.lru_cache(maxsize=1)
def has_avx512() -> bool:
    """Whether the processor computes with 512 bits at once, and torch does so.

    Without it a GELU in a product's own pass takes a fifth of the product more than in one of its own.
    """
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def joins_passes() -> bool:
    """Whether a sum or a factor takes less in a product's own pass than in one that follows, in the result's place.

    That is so on Intel's processors with 512 bits. On others a factor takes up to a fifth of a product more there.
    """
    return has_avx512() and is_intel()


@functools.lru_cache(maxsize=8)
def usable(dtype: torch.dtype) -> bool:
    """Whether this torch and this processor have the operators for a number format, and they work as expected."""
    if not torch.backends.mkldnn.is_available() or dtype not in _MULTIPLIED:
        return False
    try:
        return _works(dtype)
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False


@functools.lru_cache(maxsize=8)
def fuses_masks(dtype: torch.dtype) -> bool:
    """Whether torch's fused attention takes a mask on a processor: older ones have it by products then."""
    choose = getattr(torch, "_fused_sdp_choice", None)
    if choose is None:
        return False
    some, mask = torch.zeros(1, 1, 2, 8, dtype=dtype), torch.zeros(1, 1, 1, 2, dtype=dtype)
    return choose(some, some, some, mask) == choose(some, some, some) != _BY_PRODUCTS


@functools.lru_cache(maxsize=1)
def multiplies_tiles() -> bool:
    """Whether the processor multiplies tiles of 16-bit numbers (AMX), and this torch knows."""
    asks = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return asks is not None and asks()


def _works(dtype: torch.dtype) -> bool:
    asks = _MULTIPLIED[dtype]
    if asks and not getattr(_ops(), asks)():
        return False
    with torch.inference_mode():
        values = torch.linspace(-1, 1, 3 * 4 * 6 * 6).to(dtype)
        maps = values.view(3, 4, 6, 6).contiguous(memory_format=torch.channels_last)
        conv = nn.Conv2d(4, 4, 3, padding=1, dtype=dtype)
        matrix = torch.linspace(-1, 1, 8 * 12).to(dtype).view(8, 12)
        rows, packed, packed_conv = (
            values.view(-1, 12),
            Packed(matrix, matrix[:, 0].clone()),
            PackedConv(conv.weight, conv.bias, padding=1),
        )
        expected = F.linear(rows, matrix, matrix[:, 0])
        pairs = [
            (packed(rows), expected),
            (packed(rows, plus=expected), 2 * expected),
            (packed.gelu(rows), F.gelu(expected)),
            (packed.times(rows, expected), expected * expected),
            (packed_conv(maps), conv(maps)),
            (packed_conv(maps, plus=maps), conv(maps) + maps),
        ]
        exact = torch.equal(packed.unpacked(), matrix) and torch.equal(packed_conv.unpacked(), conv.weight)
        tolerance = 1e-5 if dtype is torch.float32 else 3e-2
        return exact and all(
            torch.allclose(found.float(), wanted.float(), rtol=tolerance, atol=tolerance) for found, wanted in pairs
        )


def _has_one_order(*, channels: int) -> bool:
    """Whether oneDNN wants a kernel of so many output channels in one order for all maps, so that it may stay in it.

    With AVX-512 it takes 64 channels at a time wherever 48 don't divide them. Elsewhere the size of the maps decides.
    """
    return has_avx512() and channels % 64 == 0 and channels % 48 != 0


def _ops() -> Any:
    """torch's oneDNN operators; name the overload, for finding the fitting one turns every tensor into text first."""
    return torch.ops.mkldnn


def pair(value: Pair) -> tuple[int, int]:
    """For the height and for the width."""
    return (value, value) if isinstance(value, int) else value
