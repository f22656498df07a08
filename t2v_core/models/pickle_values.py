"""What a pickle of weights may hold: plain values, tensors' places, and the few names that it may speak of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from t2v_core.models.tensors import ITEM_SIZES, LARGEST_RANK, span


class CodeInPickleError(Exception):
    """The pickle names, calls or changes something that weights have no use for; the text says what."""


class UnknownDtypeError(Exception):
    """The weights are stored in a number format that isn't known; the text is its name."""


class DamagedPickleError(Exception):
    """The opcodes make no sense."""


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that the pickle names; never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:100]


class Inert:
    """Stands for a value that weights don't need: an optimizer's, a callback's, a numpy number."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers, stored apart from the pickle; `start` is where a view of it begins, in elements."""

    key: str
    dtype: str
    numel: int
    start: int = 0


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A strided view of a storage; offset and stride count elements of `dtype`."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


STORAGE_TYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "Float8_e4m3fnStorage": "float8_e4m3fn",
    "Float8_e5m2Storage": "float8_e5m2",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}
_STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")

MAPPINGS = {
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("builtins", "dict"),
    ("__builtin__", "dict"),
}

_HARMLESS = {
    ("_codecs", "encode"),
    ("argparse", "Namespace"),
    ("collections", "Counter"),
    ("collections", "deque"),
    ("datetime", "datetime"),
    ("datetime", "timedelta"),
    ("pathlib", "Path"),
    ("pathlib", "PosixPath"),
    ("pathlib", "PurePosixPath"),
    ("pathlib", "PureWindowsPath"),
    ("pathlib", "WindowsPath"),
    ("torch", "device"),
    ("torch.serialization", "_get_layout"),
    ("typing", "Any"),
    *((module, name) for module in ("builtins", "__builtin__") for name in (
        "bool", "bytearray", "bytes", "complex", "float", "frozenset", "int", "list", "long", "object", "set", "slice",
        "str", "tuple", "unicode",
    )),
    *(("numpy", name) for name in (
        "bool_", "dtype", "float16", "float32", "float64", "int16", "int32", "int64", "int8", "ndarray", "uint8",
    )),
    *((module, name) for module in ("numpy.core.multiarray", "numpy._core.multiarray") for name in (
        "_reconstruct", "scalar",
    )),
    *(("torch", name) for name in ITEM_SIZES),
}  # fmt: skip

# Training frameworks whose checkpoints carry their own classes beside the weights (the original VQGAN_autoencoder.pth
# is one of them).
_HARMLESS_ROOTS = ("pytorch_lightning", "lightning", "lightning_fabric", "omegaconf")


def is_harmless(name: Name) -> bool:
    """Whether weights in good faith carry this name though it isn't needed to read them."""
    root = name.module.partition(".")[0]
    is_class = name.name.isidentifier() and name.name[:1].isupper()
    return (name.module, name.name) in _HARMLESS or (root in _HARMLESS_ROOTS and is_class)


def is_storage_type(name: Name) -> bool:
    """Whether it's one of torch's storage classes.

    Raises:
        UnknownDtypeError: when it's one of numbers that aren't known here, complex or quantised ones.
    """
    if name.module in _STORAGE_MODULES and name.name.endswith("Storage") and name.name not in STORAGE_TYPES:
        raise UnknownDtypeError(name.name.removesuffix("Storage"))
    return name.module in _STORAGE_MODULES and name.name in STORAGE_TYPES


def storage_named(identity: Any) -> Storage:
    """What torch.save's persistent ids say: ("storage", type, key, location, element count[, view])."""
    if not (isinstance(identity, tuple) and len(identity) in (5, 6) and identity[0] == "storage"):
        raise CodeInPickleError("a reference to something that is no tensor")
    kind, key, numel = identity[1], identity[2], identity[4]
    if not (isinstance(kind, Name) and is_storage_type(kind)):
        raise CodeInPickleError("a reference to something that is no tensor")
    if not isinstance(key, (str, int)):
        raise DamagedPickleError("a storage without a name")
    start = 0
    if len(identity) == 6 and identity[5] is not None:
        _, start, numel = identity[5] if isinstance(identity[5], tuple) and len(identity[5]) == 3 else (0, -1, -1)
    return Storage(str(key), STORAGE_TYPES[kind.name], _count(numel), _count(start))


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise DamagedPickleError("a tensor's size or place is no whole number")
    return value


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any, dtype: str | None = None) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise DamagedPickleError("a tensor without a storage")
    if not (isinstance(shape, tuple) and isinstance(stride, tuple) and len(shape) == len(stride) <= LARGEST_RANK):
        raise DamagedPickleError("a tensor's shape and stride don't fit")
    sizes, steps = tuple(map(_count, shape)), tuple(map(_count, stride))
    dtype = dtype or storage.dtype
    if (_count(offset) + span(sizes, steps)) * ITEM_SIZES[dtype] > storage.numel * ITEM_SIZES[storage.dtype]:
        raise DamagedPickleError("a tensor is bigger than its storage")
    return StoredTensor(storage, dtype, offset, sizes, steps)


def _tensor_of_dtype(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> StoredTensor:
    """torch's third form, for dtypes that have no storage class of their own."""
    name = rest[2] if len(rest) > 2 else None
    if not (isinstance(name, Name) and name.module == "torch" and name.name in ITEM_SIZES):
        raise UnknownDtypeError(str(name))
    return _tensor(storage, offset, shape, stride, dtype=name.name)


def _shape(sizes: Any = ()) -> tuple[Any, ...]:
    return tuple(sizes)


def _parameter(data: Any = None, *_: Any) -> Any:
    return data


REBUILDERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_dtype,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch.nn.parameter", "Parameter"): _parameter,
    ("torch", "Size"): _shape,
}
