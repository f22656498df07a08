"""Has the system fetch a model's tensors from the disk while the program does something else, in the order of use."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from t2v_core.errors import WeightsError
from t2v_core.models.tensors import TensorRef

_WINDOW = 16 * 2**20
_GAP = 2**20
"""Bytes that nobody asked for which are read along, where skipping them would take as long."""


@contextlib.contextmanager
def reading_ahead(tensors: Callable[[], Iterable[TensorRef]]) -> Iterator[None]:
    """Within the block a thread reads what tensors need of their files, into the system's cache and nowhere else.

    What goes wrong is left to who reads them in earnest. Leaving the block stops it.
    """
    left = threading.Event()
    reader = threading.Thread(target=_read, args=(tensors, left), name="reading ahead", daemon=True)
    reader.start()
    try:
        yield
    finally:
        left.set()
        reader.join()


def _read(tensors: Callable[[], Iterable[TensorRef]], left: threading.Event) -> None:
    with contextlib.suppress(OSError, WeightsError):
        for path, start, end in _pieces(tensors()):
            with path.open("rb", buffering=0) as file:
                for window in range(start, end, _WINDOW):
                    if left.is_set():
                        return
                    _fetch(file.fileno(), window, min(end, window + _WINDOW))


def _pieces(tensors: Iterable[TensorRef]) -> Iterator[tuple[Path, int, int]]:
    """The files' pieces that hold the tensors, each with its first byte and the one behind its last."""
    path, start, end = None, 0, 0
    for tensor in tensors:
        first, last = tensor.offset, tensor.offset + tensor.nbytes
        if tensor.file == path and start <= first <= end + _GAP:
            end = max(end, last)
            continue
        if path is not None:
            yield path, start, end
        path, start, end = tensor.file, first, last
    if path is not None:
        yield path, start, end


def _fetch(file: int, start: int, end: int) -> None:
    """Bring a window of an open file into the system's cache."""
    if hasattr(os, "posix_fadvise"):
        # The next one, too, is on its way when this one is there, so that the disk is never idle.
        os.posix_fadvise(file, start, 2 * _WINDOW, os.POSIX_FADV_WILLNEED)
        os.lseek(file, end - 1, os.SEEK_SET)
        os.read(file, 1)
        return
    os.lseek(file, start, os.SEEK_SET)
    while start < end and (taken := len(os.read(file, end - start))):
        start += taken
