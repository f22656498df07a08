"""Reads where the tensors of a .safetensors file lie: its header, checked against the file's true length."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from t2v_core.models.tensors import ITEM_SIZES, LARGEST_RANK, FileError, TensorRef, dense_stride, unknown_dtype
from t2v_core.models.whole import DOWNLOAD_AGAIN, damage_named, opened

LARGEST_HEADER = 100_000_000
"""The format's own bound."""

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins so has a safetensors header."""
    return len(head) > 8 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= LARGEST_HEADER


def read_safetensors(path: Path) -> dict[str, TensorRef]:
    """The file's tensors by name.

    Raises:
        FileError: when it is cut short or damaged, or holds a dtype that isn't known.
    """
    with opened(path) as file, damage_named(path, "its header"):
        size = file.seek(0, 2)
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        if length > LARGEST_HEADER:
            raise FileError(path, "is damaged: its header has an absurd length.", remedy=DOWNLOAD_AGAIN)
        start = 8 + length
        if start > size:
            raise _cut_short(path, size, start)
        entries = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_without_repeats)
        entries.pop("__metadata__", None)
        ends = [entry["data_offsets"][1] for entry in entries.values()]
        if start + max(ends, default=0) > size:
            raise _cut_short(path, size, start + max(ends))
        return {name: _tensor(path, name, entry, start=start) for name, entry in entries.items()}


def _tensor(path: Path, name: str, entry: Any, *, start: int) -> TensorRef:
    dtype, (begin, end), sizes = entry["dtype"], entry["data_offsets"], entry["shape"]
    if dtype not in _DTYPES:
        raise unknown_dtype(path, str(dtype))
    whole = all(type(value) is int and value >= 0 for value in (begin, end, *sizes))
    if not whole or len(sizes) > LARGEST_RANK or end - begin != math.prod(sizes) * ITEM_SIZES[_DTYPES[dtype]]:
        raise FileError(path, f"is damaged: {name[:100]} has another length than its shape.", remedy=DOWNLOAD_AGAIN)
    shape = tuple(sizes)
    return TensorRef(path, start + begin, _DTYPES[dtype], shape, dense_stride(shape))


def _cut_short(path: Path, size: int, needed: int) -> FileError:
    return FileError(path, f"is cut short: {size:,} of {needed:,} bytes are there.", remedy=DOWNLOAD_AGAIN)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a name stands twice")
    return entries
