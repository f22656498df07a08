"""Where a tensor lies in a file, before anything of it is read, and the error that names a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from t2v_core.errors import WeightsError

ITEM_SIZES: Mapping[str, int] = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}
"""Bytes of one element by dtype; the names are torch's attributes."""

LARGEST_RANK = 16


class FileError(WeightsError):
    """A `WeightsError` about one file: `path`, `what` is wrong with it, and the `remedy`."""

    def __init__(self, path: Path, what: str, *, remedy: str) -> None:
        super().__init__(f"{path}: {what}", remedy=remedy)
        self.path = path
        self.what = what


def unknown_dtype(path: Path, name: str) -> FileError:
    """The problem of a file whose numbers are in a format that isn't known."""
    return FileError(
        path, f"holds numbers in the unknown format {name[:40]}.", remedy="Get the weights as fp16, bf16 or fp32."
    )


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor in a file: `offset` is its first element's byte, `stride` counts elements as torch's does."""

    file: Path
    offset: int
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def numel(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def span(self) -> int:
        """How many elements of the file it reaches over; more than `numel` where it is a view with gaps."""
        return span(self.shape, self.stride)

    @property
    def is_contiguous(self) -> bool:
        """Whether its elements lie one after the other in their order."""
        packed = dense_stride(self.shape)
        return self.numel == 0 or all(
            size == 1 or step == dense for size, step, dense in zip(self.shape, self.stride, packed, strict=True)
        )

    @property
    def is_floating(self) -> bool:
        """Whether it holds real numbers."""
        return "float" in self.dtype

    @property
    def nbytes(self) -> int:
        """Bytes that reading it takes from the file."""
        return self.span * ITEM_SIZES[self.dtype]


def dense_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The stride of a packed row-major tensor."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def span(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Elements from the first to the last one of a strided view, both counted."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))


def dimensions(shape: tuple[int, ...]) -> str:
    """A shape for people: "320×4×3×3"."""
    return "×".join(map(str, shape)) or "a single number"
