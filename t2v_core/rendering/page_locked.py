"""Page-locked main memory, which a GPU copies from while it computes, for thousands of weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_PIECE = 2**28
_ALIGNMENT = 256
"""Bytes; what device kernels like, and a multiple of every number's size."""


class PageLocked:
    """Gives out parts of large pieces; one goes back to torch when all of its parts have gone.

    torch rounds each request up to a power of two, which for a network's weights one by one is a third more than they
    take, or two thirds for blocks of them, and keeps what comes back for another of that size.
    """

    def __init__(self, allocate: Callable[[int], Tensor] | None = None) -> None:
        self._allocate = allocate or _page_locked
        self._rest: Tensor | None = None

    def take(self, count: int) -> Tensor:
        """So many bytes, (count,) uint8."""
        room = aligned(count)
        if self._rest is None or room > len(self._rest):
            self._rest = self._allocate(max(_PIECE, 1 << (room - 1).bit_length()))
        part, self._rest = self._rest[:count], self._rest[room:]
        return part


def aligned(count: int) -> int:
    """So many bytes, and those up to where the next tensor may begin."""
    return -(-count // _ALIGNMENT) * _ALIGNMENT


def _page_locked(count: int) -> Tensor:
    return torch.empty(count, dtype=torch.uint8, pin_memory=True)
