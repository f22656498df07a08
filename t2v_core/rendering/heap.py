"""Keeps a processor's working memory between layers, instead of taking it from the system anew for each of them.

The C library gives large blocks back at once, and the system has to clear every page of the next one. A network's layer
frees what the next one needs: told to wait until the end, the library hands the same pages on.

Two things must not lie among those blocks, or they tear the memory into pieces that nothing fits into: weights, and
what libraries make for every new shape and keep for good (oneDNN's compiled kernels). So large blocks lie apart from
all others, each in memory of its own, but for passes whose like has been seen before.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from t2v_core.rendering.devices import empty_cache

logger = logging.getLogger(__name__)

# Their numbers are part of glibc's interface: see mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MIB = 2**20

WHILE_WORKING: Mapping[int, int] = {
    _MMAP_THRESHOLD: 1 * _MIB,
    _TRIM_THRESHOLD: 2047 * _MIB,
    _TOP_PAD: 64 * _MIB,  # as large as the pieces that threads other than the first one have
}
IN_A_PASS: Mapping[int, int] = {_MMAP_THRESHOLD: 1024 * _MIB}
BETWEEN_PASSES: Mapping[int, int] = {_MMAP_THRESHOLD: WHILE_WORKING[_MMAP_THRESHOLD]}
USUAL: Mapping[int, int] = {
    # What the library sets by itself in a program that has once freed a block of this size, as every network does.
    _MMAP_THRESHOLD: 32 * _MIB,
    _TRIM_THRESHOLD: 64 * _MIB,
    _TOP_PAD: 128 * 1024,
}

_seen: set[Hashable] = set()
"""The passes that this process has been through; what libraries made for them is there."""

_open: set[object] = set()
"""One thing for each `working_memory` block that is open."""


@contextlib.contextmanager
def working_memory(*, wanted: bool) -> Iterator[None]:
    """Within the block passes may keep their memory; afterwards it goes back. Without glibc nothing changes."""
    library = _glibc() if wanted else None
    if library is None:
        yield
        return
    _open.add(block := object())
    _set(library, WHILE_WORKING)
    try:
        yield
    finally:
        _open.discard(block)
        if not _open:
            _set(library, USUAL)
            empty_cache("cpu")


@contextlib.contextmanager
def keeping_memory(like: Hashable) -> Iterator[None]:
    """Around one pass of a network within `working_memory`: freed blocks stay for the next layers, and the next pass.

    Not so in the first pass that is `like` this one, as a value that tells its shapes apart from others'.
    """
    library = _glibc() if _open else None
    if library is None:
        yield
        return
    if like in _seen:
        _set(library, IN_A_PASS)
        _fill_small_places(library)
    try:
        yield
        _seen.add(like)
    finally:
        _set(library, BETWEEN_PASSES)


def _set(library: Any, settings: Mapping[int, int]) -> None:
    for name, value in settings.items():
        if library.mallopt(name, value) != 1:
            logger.debug("the C library refuses setting %d to %d", name, value)


def _fill_small_places(library: Any) -> None:
    """Let this thread have some small blocks that are free.

    What aligning a large block leaves over would otherwise be kept as one, right behind the block, and keep the
    next one from taking its place.
    """
    blocks = [library.malloc(16 * size) for size in range(1, 17) for _ in range(8)]
    for block in blocks:
        library.free(block)


@functools.lru_cache(maxsize=1)
def _glibc() -> Any:
    """The C library that this process uses, None if it's another one."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - only glibc has it
        library.mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
        library.malloc.argtypes = (ctypes.c_size_t,)
        library.malloc.restype, library.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    except (OSError, AttributeError, TypeError):
        return None
    return library
