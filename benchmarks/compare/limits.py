"""What this machine can do at most, measured: matrix products, copying in memory, reading a file."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.compare.contender import synchronize

# Rows, inner, columns: square ones, and what the network's own layers are like at 256×256.
_CPU_SHAPES = ((2048, 2048, 2048), (4096, 1280, 5120), (4096, 2560, 1280))
_GPU_SHAPES = ((4096, 4096, 4096), (8192, 8192, 8192), (16384, 1280, 10240))
_SMALL_SHAPES = ((256, 256, 256),)
_WINDOW = 16 * 2**20
_LONG = 5.0
"""Seconds of a call that isn't made again: without kernels for a number format, one product takes as long as a step."""


def matrix_peak(device: str, dtype: torch.dtype, *, small: bool = False) -> tuple[float, str]:
    """The most FLOP a second of any product and any library here, and which one it was."""
    shapes = _CPU_SHAPES if device.startswith("cpu") else _GPU_SHAPES
    best = (0.0, "")
    for rows, inner, columns in _SMALL_SHAPES if small else shapes:
        left = torch.randn(rows, inner, device=device).to(dtype)
        right = torch.randn(columns, inner, device=device).to(dtype)
        for name, product in _products(left, right):
            seconds = _fastest(product, device=device)
            best = max(best, (2.0 * rows * inner * columns / seconds, f"{name}, {rows}×{inner}×{columns}"))
    return best


def copy_rate(device: str, *, small: bool = False) -> float:
    """Bytes a second that are read and written by a copy which no cache holds."""
    source = torch.zeros((4 if small else 512) * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2.0 * source.numel() / _fastest(lambda: target.copy_(source), device=device)


def read_rate(files: list[Path]) -> float:
    """Bytes a second at which files are read from one end to the other when the system holds none of them."""
    forget(files)
    window, total, began = bytearray(_WINDOW), 0, time.perf_counter()
    for path in files:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(window):
                total += count
    return total / (time.perf_counter() - began)


def forget(files: list[Path]) -> bool:
    """Ask the system to drop what it holds of files in memory, so that the next reading comes from the disk."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in files:
        with path.open("rb") as file:
            with contextlib.suppress(OSError):
                os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def _products(left: Tensor, right: Tensor) -> Iterator[tuple[str, Callable[[], object]]]:
    turned = right.t().contiguous()
    yield "torch.mm", lambda: torch.mm(left, turned)
    yield "linear", lambda: F.linear(left, right)
    if left.device.type == "cpu" and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        linear = torch.ops.mkldnn._linear_pointwise
        with contextlib.suppress(RuntimeError, NotImplementedError):
            linear(left[:8], right, None, "none", [], "")
            yield "oneDNN", lambda: linear(left, right, None, "none", [], "")
            packed = torch.ops.mkldnn._reorder_linear_weight(right, left.shape[0])
            yield "oneDNN, packed", lambda: linear(left, packed, None, "none", [], "")


def _fastest(work: Callable[[], object], *, device: str, least: float = 0.5, times: int = 5) -> float:
    """Seconds of the fastest of several calls, over at least half a second, after one that counts if it took long."""
    began = time.perf_counter()
    work()
    synchronize(device)
    if (once := time.perf_counter() - began) > _LONG:
        return once
    found, began, done = float("inf"), time.perf_counter(), 0
    while done < times or time.perf_counter() - began < least:
        start = time.perf_counter()
        work()
        synchronize(device)
        found = min(found, time.perf_counter() - start)
        done += 1
    return found
