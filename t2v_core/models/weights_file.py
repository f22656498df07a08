"""Opens a file of weights by what it is, not by what it is called; a set of shards counts as one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from t2v_core.models.safetensors_file import is_safetensors, read_safetensors
from t2v_core.models.tensors import FileError, TensorRef
from t2v_core.models.torch_file import is_torch_file, read_torch_file, read_torch_list
from t2v_core.models.whole import DOWNLOAD_AGAIN, first_bytes, missing, read_json

INDEX_SUFFIX = ".json"


def read_weights(path: Path) -> Mapping[str, TensorRef]:
    """The tensors of a file, or of all shards that an index (.json) lists, by name; only headers are read.

    Raises:
        FileError: with the file that is missing, damaged, unsafe or something else, and the remedy.
    """
    if path.suffix == INDEX_SUFFIX:
        return _read_shards(path)
    head, size = first_bytes(path, kind="weights")
    if is_safetensors(head):
        return read_safetensors(path)
    if is_torch_file(head):
        return read_torch_file(path)
    if head.lstrip()[:1] in (b"{", b"[") or head.isascii():
        raise FileError(path, "is text, not weights.", remedy=DOWNLOAD_AGAIN)
    raise FileError(
        path,
        f"is neither a torch file nor a safetensors file ({size:,} bytes).",
        remedy="Its beginning is damaged or it is of another kind: download it again.",
    )


def read_list(path: Path) -> list[TensorRef]:
    """The tensors of a torch file that is a nameless list of them; empty for every other file of weights.

    Raises:
        FileError: as `read_weights`.
    """
    head, _ = first_bytes(path, kind="weights")
    return read_torch_list(path) if is_torch_file(head) and not is_safetensors(head) else []


def shards_of(index: Path) -> tuple[Path, ...]:
    """The files that an index lists, in their order; all lie in its own folder.

    Raises:
        FileError: when the index isn't whole, or names a file elsewhere.
    """
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise FileError(index, "lists no files in its weight_map.", remedy=DOWNLOAD_AGAIN)
    names = sorted(set(weight_map.values()))
    for name in names:
        if name in ("", ".", "..") or any(mark in name for mark in "/\\:\0"):
            raise FileError(
                index, f"names the file {name[:100]!r} outside its own folder, which is refused.", remedy=DOWNLOAD_AGAIN
            )
    return tuple(index.parent / name for name in names)


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that hold the numbers: the file itself, or an index's shards."""
    return shards_of(path) if path.suffix == INDEX_SUFFIX else (path,)


def _read_shards(index: Path) -> Mapping[str, TensorRef]:
    if not index.exists():
        raise missing(index)
    tensors: dict[str, TensorRef] = {}
    for shard in shards_of(index):
        for name, tensor in read_weights(shard).items():
            if tensors.setdefault(name, tensor) is not tensor:
                raise FileError(shard, f"repeats {name}, which another shard holds.", remedy=DOWNLOAD_AGAIN)
    for name, shard in read_json(index)["weight_map"].items():
        if name not in tensors:
            raise FileError(
                index.parent / shard, f"doesn't hold {name}, which {index.name} says it does.", remedy=DOWNLOAD_AGAIN
            )
    return tensors
