"""What the system's and the encoder's errors mean for someone who wants to save a video."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from t2v_core.errors import DiskFullError, OutputError

ANOTHER_FOLDER = "Choose another output folder."

_FULL = re.compile(r"no space left|disk quota exceeded|not enough space", re.IGNORECASE)
_FULL_NUMBERS = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def shown(path: Path) -> str:
    """A path as it can be printed anywhere, whatever bytes its name has."""
    return str(path).encode(errors="replace").decode()


def encoder_failed(folder: Path, log: str) -> OutputError:
    """The error for an encoder that ended with this log, the cause in its first line."""
    if _FULL.search(log):
        return _disk_full(folder)
    cause = log.partition("\n")[0] or "it was ended from outside"
    return OutputError(f"The video encoder failed: {cause}.")


def output_error(error: OSError, folder: Path) -> OutputError:
    """The error for a system call that failed while saving into the folder."""
    name = shown(folder)
    if error.errno in _FULL_NUMBERS:
        return _disk_full(folder)
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return OutputError(f"{name} can't be a folder: a file of that name is in the way.", remedy=ANOTHER_FOLDER)
    if isinstance(error, PermissionError):
        return OutputError(f"You may not write into {name}.", remedy=ANOTHER_FOLDER)
    return OutputError(f"Nothing can be written into {name}: {error.strerror or error}.", remedy=ANOTHER_FOLDER)


def _disk_full(folder: Path) -> OutputError:
    return DiskFullError(f"The disk of {shown(folder)} is full.", remedy=f"Free some space. {ANOTHER_FOLDER}")
