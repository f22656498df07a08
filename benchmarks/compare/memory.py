"""The most memory that this process, or its GPU, has needed since a moment."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from pathlib import Path

import psutil
import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def forget_peak(device: str) -> None:
    """Begin anew: from here on `peak` counts."""
    tidy()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5", encoding="ascii")


def peak(device: str) -> int:
    """Bytes at the peak: of the GPU's allocator, else what was resident of this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return _line("VmHWM") or _peak_elsewhere()


def now(device: str) -> int:
    """Bytes in use."""
    if device.startswith("cuda"):
        return torch.cuda.memory_allocated(device)
    return psutil.Process().memory_info().rss


def tidy() -> None:
    """Give back what nobody uses any more, so that it isn't counted as anyone's need."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _line(name: str) -> int:
    if not _STATUS.exists():
        return 0
    lines = (line.split() for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines())
    return next((int(words[1]) * 1024 for words in lines if words and words[0] == f"{name}:"), 0)


def _peak_elsewhere() -> int:
    """Windows' peak working set; on macOS `ru_maxrss`, in bytes."""
    info = psutil.Process().memory_info()
    if sys.platform == "win32":
        return int(vars(info).get("peak_wset") or info._asdict()["peak_wset"])
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
