"""A file that hasn't come whole yet: hidden beside the place that it is for, and in the hands of one process."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from t2v_core.errors import DownloadError, OutputError

SUFFIX = ".incomplete"
_HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FAR = 2**40
"""Where Windows locks a byte: beyond the end, for a locked byte can't be read."""


def half_of(path: Path, digest: str) -> Path:
    """Where the half file for `path` lies; another content's has another name."""
    return path.with_name(f".{path.name}.{digest[:8]}{SUFFIX}")


@contextlib.contextmanager
def opened_alone(half: Path) -> Iterator[BinaryIO]:
    """The half file, new or as far as it came, for reading and writing, and for nobody else at the same time.

    Raises:
        DownloadError: another process, or another thread, has it.
        OutputError: it can't be opened, or in the block something can't be written.
    """
    with _disk_named(half.parent):
        half.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(half, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        with os.fdopen(descriptor, "r+b") as file:
            if not _lock(descriptor) or not _is_there(half, descriptor):
                raise DownloadError(
                    f"{half.parent} is being downloaded already.", remedy="Wait for it, or stop it first."
                )
            yield file


def publish(half: Path, path: Path) -> None:
    """Give a whole file its name; never over another file.

    Raises:
        OutputError: the name is taken, or it can't be renamed.
    """
    if os.path.lexists(path):
        raise taken(path)
    with _disk_named(path.parent):
        os.rename(half, path)


def taken(path: Path) -> OutputError:
    """The error for a place where something else lies."""
    return OutputError(
        f"{path} is there already and is another file than the one to download.",
        remedy="Move it to another folder or delete it, and start again.",
    )


@contextlib.contextmanager
def _disk_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OutputError(
                f"The disk of {folder} is full.",
                remedy="Free some space and start it again: what has come is kept, and it goes on from there.",
            ) from error
        raise OutputError(
            f"Nothing can be written into {folder}: {error.strerror or error}.",
            remedy="Give your user the right to write there, or choose another models folder.",
        ) from error


def _is_there(half: Path, descriptor: int) -> bool:
    """Whether the name still is this file's: whoever had it may have finished it a moment ago."""
    try:
        return os.path.samestat(os.stat(half), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> bool:
    """Whether the file is ours now, until it's closed; on a disk that knows no locks it always is."""
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(descriptor, _FAR, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _HELD
    return True
