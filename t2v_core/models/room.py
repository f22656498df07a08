"""Memory for copies that are needed for a moment: within `kept_room` each takes the place of the last one of its kind.

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
    """Each thread's own: the memory by the kind of copy, and whether it's kept."""

    def __init__(self) -> None:
        self.memory: dict[str, Tensor] = {}
        self.is_wanted = False


_kept = _Kept()


@contextlib.contextmanager
def kept_room() -> Iterator[None]:
    """Within the block all of a kind that `room` gives to this thread lies in the same place."""
    before, _kept.is_wanted = _kept.is_wanted, True
    try:
        yield
    finally:
        _kept.is_wanted = before
        if not before:
            _kept.memory.clear()


def room(shape: Sequence[int], dtype: torch.dtype, *, kind: str) -> Tensor:
    """A tensor of any values on the processor; within `kept_room` the next one of its kind is written over it."""
    if not _kept.is_wanted:
        return torch.empty(tuple(shape), dtype=dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = _kept.memory.pop(kind, None)
    if memory is None or memory.numel() < size:
        memory = None  # which gives it back before there is more of it
        memory = torch.empty(size, dtype=torch.uint8)
    _kept.memory[kind] = memory
    return memory[:size].view(dtype).view(tuple(shape))
