"""Memory for copies that are needed for a moment: within `kept_room` each of them takes the place of the one before.

The system clears every page of new memory, which takes longer than copying something there.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


class _Kept(threading.local):
    """Each thread's own: the memory, and whether it's kept."""

    memory: Tensor | None = None
    is_wanted = False


_kept = _Kept()


@contextlib.contextmanager
def kept_room() -> Iterator[None]:
    """Within the block all that `room` gives to this thread lies in the same place."""
    before, _kept.is_wanted = _kept.is_wanted, True
    try:
        yield
    finally:
        _kept.is_wanted = before
        if not before:
            _kept.memory = None


def room(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor of any values on the processor; within `kept_room` the next one is written over it."""
    if not _kept.is_wanted:
        return torch.empty(tuple(shape), dtype=dtype)
    size = math.prod(shape) * dtype.itemsize
    if _kept.memory is None or _kept.memory.numel() < size:
        _kept.memory = None
        _kept.memory = torch.empty(size, dtype=torch.uint8)
    return _kept.memory[:size].view(dtype).view(tuple(shape))
