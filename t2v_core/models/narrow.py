"""Packed weights that are kept in 16 bits where the processor multiplies float32 alone, and are widened in each use.

oneDNN wants a weight's numbers in an order of its own. They stay in that order, but in the format that they came in,
and are widened right before they are multiplied, which finds them in the processor's cache: half of the memory, read
once. Weights of one order are widened in the same place, one after the other.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


class Narrow:
    """A packed weight in float32, whose numbers are kept in a narrower format that can hold each of them."""

    def __init__(self, packed: Tensor, dtype: torch.dtype) -> None:
        # First, for as a place it may be written to by others at once.
        self._numbers = _numbers_of(packed).to(dtype)
        self._place = _place_like(packed)

    @contextlib.contextmanager
    def wide(self) -> Iterator[Tensor]:
        """Within the block the packed weight, which no other of its order can be meanwhile."""
        with self._place.lock:
            self._place.numbers.copy_(self._numbers)
            yield self._place.packed

    @property
    def dtype(self) -> torch.dtype:
        """The format that the numbers are kept in."""
        return self._numbers.dtype


class _Place:
    """A packed weight that others of its order are widened in, until the last of them is gone."""

    def __init__(self, packed: Tensor) -> None:
        self.packed, self.numbers = packed, _numbers_of(packed)
        self.lock = threading.Lock()


_places: weakref.WeakValueDictionary[bytes, _Place] = weakref.WeakValueDictionary()
"""By what oneDNN says of an order: shape, format and blocks."""


def _place_like(packed: Tensor) -> _Place:
    key = bytes(_ops()._get_mkldnn_serialized_md(packed).numpy())
    place = _places.get(key)
    if place is None:
        _places[key] = place = _Place(packed)
    return place


def _numbers_of(packed: Tensor) -> Tensor:
    """The numbers of a packed weight as they lie in its memory, which they share, with what fills its blocks up."""
    count = _ops()._nbytes(packed) // packed.element_size()
    memory = (ctypes.c_float * count).from_address(_ops().data_ptr(packed))
    with torch.inference_mode(mode=False):  # they change outside of it as well
        return torch.frombuffer(memory, dtype=torch.float32)


@functools.lru_cache(maxsize=1)
def keeps_narrow() -> bool:
    """Whether this torch says where a packed weight's numbers lie, and finds them changed."""
    try:
        return _works()
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False


def _works() -> bool:
    with torch.inference_mode():
        first, second = (torch.linspace(0, 1, 48 * 20).view(48, 20).bfloat16().float() + add for add in (0, 1))
        weights = [Narrow(_ops()._reorder_linear_weight(each, None), torch.bfloat16) for each in (first, second)]
        found = []
        for weight in weights:
            with weight.wide() as packed:
                product = _ops()._linear_pointwise.default(torch.eye(20), packed, None, "none", [], "")
                found.append((product.t(), packed.to_dense()))
    expected = [each.bfloat16().float() for each in (first, second)]
    return all(torch.equal(one, each) for each, both in zip(expected, found, strict=True) for one in both)


def _ops() -> Any:
    return torch.ops.mkldnn
