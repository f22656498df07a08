"""Packs a network block by block, so that no second copy of it exists: while its file is read, or afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import nn

from t2v_core.models.loading import Completed, blocks_of
from t2v_core.models.modelscope.layers import pack
from t2v_core.rendering.devices import empty_cache


@contextlib.contextmanager
def packing_beside() -> Iterator[Completed]:
    """Gives what packs a block in a thread of its own, while this one reads the next; the block's end waits for it.

    Raises:
        Exception: what packing raised, at the block's end. What the block itself raises leaves the rest unpacked.
    """
    last: Future[None] | None = None

    def completed(block: nn.Module) -> None:
        nonlocal last
        last = thread.submit(_pack_after, last, block)

    # Threads of torch's that wait for each other must not wait for a core as well: reading has one of its own.
    cores = torch.get_num_threads()
    options = {"initializer": torch.set_num_threads, "initargs": (max(1, cores - 1),)}
    with (
        _threads(1, afterwards=cores),
        ThreadPoolExecutor(max_workers=1, thread_name_prefix="packing", **options) as thread,
    ):
        try:
            yield completed
        except BaseException:
            thread.shutdown(cancel_futures=True)
            raise
    if last is not None:
        last.result()


@contextlib.contextmanager
def _threads(count: int, *, afterwards: int) -> Iterator[None]:
    """Within the block torch uses so many threads for what this one begins."""
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(afterwards)


def pack_each(network: nn.Module) -> None:
    """Pack the blocks of a network that aren't packed yet."""
    for block in blocks_of(network):
        _pack(block)


def _pack_after(before: Future[None] | None, block: nn.Module) -> None:
    """Pack a block, unless the one before it failed: what that raised is passed on."""
    if before is not None:
        before.result()
    _pack(block)


def _pack(block: nn.Module) -> None:
    if pack(block):
        empty_cache("cpu")  # the holes that packing tears into the heap would add up
