"""Packs a network block by block, so that no second copy of it exists: while its file is read, or afterwards."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from queue import SimpleQueue

import torch
from torch import nn

from t2v_core.models.loading import Completed, blocks_of
from t2v_core.models.modelscope.packable import pack
from t2v_core.models.room import kept_room
from t2v_core.rendering.devices import empty_cache


def pack_while(read: Callable[[Completed], None]) -> None:
    """Read a network in a thread of its own, and pack each of its blocks as soon as it's told of.

    What was read lies in that thread's part of the heap: the holes that it leaves tear no memory of this one's.

    Raises:
        Exception: what reading or packing raised; the other one ends at the next block.
    """
    blocks: SimpleQueue[nn.Module | None] = SimpleQueue()
    over, is_read = threading.Event(), threading.Event()

    def completed(block: nn.Module) -> None:
        if over.is_set():
            raise CancelledError
        blocks.put(block)

    def reading() -> None:
        try:
            read(completed)
        finally:
            is_read.set()
            blocks.put(None)

    # Threads of torch's that wait for each other must not wait for a core as well: reading has one while it lasts.
    cores = torch.get_num_threads()
    with ThreadPoolExecutor(1, "reading", _work_alone) as thread:
        job = thread.submit(reading)
        try:
            with _threads(max(1, cores - 1)), kept_room():
                while (block := blocks.get()) is not None:
                    if is_read.is_set():
                        torch.set_num_threads(cores)
                    _pack(block)
        finally:
            over.set()
    job.result()


def _work_alone() -> None:
    torch.get_num_threads()  # in a new thread torch sets the usual number when it's first asked
    torch.set_num_threads(1)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Within the block torch uses so many threads for what this one begins."""
    usual = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def pack_each(network: nn.Module) -> None:
    """Pack the blocks of a network that aren't packed yet."""
    with kept_room():
        for block in blocks_of(network):
            _pack(block)


def _pack(block: nn.Module) -> None:
    if pack(block):
        empty_cache("cpu")  # the holes that packing tears into the heap would add up
