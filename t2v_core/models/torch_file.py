"""Reads where the tensors of a torch.save file lie (.pth, .pt, .bin, .ckpt), of both its formats, without torch.

Since torch 1.6 the file is a zip archive: a pickle of the structure, and each storage as one uncompressed record.
Before that it was a run of pickles followed by the storages. The host's replacement of torch.load plays no part.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from t2v_core.models import pickle_machine
from t2v_core.models.pickle_values import (
    CodeInPickleError,
    DamagedPickleError,
    Storage,
    StoredTensor,
    UnknownDtypeError,
)
from t2v_core.models.tensors import ITEM_SIZES, FileError, TensorRef, unknown_dtype
from t2v_core.models.whole import DOWNLOAD_AGAIN, damage_named, opened

ZIP_START = b"PK\x03\x04"
LARGEST_PICKLE = 16 * 2**20
"""The original VQGAN_autoencoder.pth's pickle has less than 1 MB."""

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "unet", "weights", "params")

_Places = Mapping[str, tuple[int, int]]
"""Each storage's first byte in the file and its length in bytes."""


def is_torch_file(head: bytes) -> bool:
    """Whether a file that begins so is a zip archive or a pickle."""
    return head.startswith(ZIP_START) or head[:1] == b"\x80" or head[:1] in b"(]}cL"


def read_torch_file(path: Path) -> dict[str, TensorRef]:
    """The tensors of the file's state dict by name, wherever in the pickled structure it stands.

    Raises:
        FileError: when the file is damaged, cut short, holds code, or no named tensors.
    """
    with _pickle_problems(path):
        document, places = _read(path)
        tensors = _state_dict(document)
        if not tensors:
            raise FileError(path, _nameless(document), remedy="Put the model's own weights in its place.")
        return {name: _place(path, tensor, places) for name, tensor in tensors.items()}


def read_torch_list(path: Path) -> list[TensorRef]:
    """The tensors of a file that is a list of them, in its order; empty where it's anything else.

    Raises:
        FileError: as `read_torch_file`.
    """
    with _pickle_problems(path):
        document, places = _read(path)
        is_list = isinstance(document, list) and all(isinstance(value, StoredTensor) for value in document)
        return [_place(path, tensor, places) for tensor in document] if is_list else []


def _read(path: Path) -> tuple[Any, _Places]:
    """The file's structure, and where its storages lie."""
    with opened(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        is_zip = file.read(len(ZIP_START)) == ZIP_START
        return _read_zip(path, file, size) if is_zip else _read_legacy(path, file, size)


@contextlib.contextmanager
def _pickle_problems(path: Path) -> Iterator[None]:
    with damage_named(path, "its structure"):
        try:
            yield
        except CodeInPickleError as error:
            raise FileError(
                path,
                f"is a pickle with code in it: it holds {error}, which weights have no use for. Nothing of it was run.",
                remedy="Delete it, and get the weights from their author's own page, best as .safetensors.",
            ) from None
        except UnknownDtypeError as error:
            raise unknown_dtype(path, str(error)) from None
        except DamagedPickleError as error:
            raise FileError(path, f"is damaged: {error}.", remedy=DOWNLOAD_AGAIN) from None


def _read_zip(path: Path, file: Any, size: int) -> tuple[Any, _Places]:
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        raise FileError(
            path,
            f"is cut short or damaged: the zip archive's directory at its end is missing ({size:,} bytes are there).",
            remedy=DOWNLOAD_AGAIN,
        ) from None
    with archive:
        records = {info.filename: info for info in archive.infolist()}
        pickles = [
            name for name in records if name == "data.pkl" or (name.endswith("/data.pkl") and name.count("/") == 1)
        ]
        if not pickles:
            raise FileError(
                path, "is a zip archive, but not of weights.", remedy="Unpack it, and use the file that is in it."
            )
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in records:
            raise FileError(
                path, "is a compiled TorchScript program, not weights.", remedy="Put the model's weights in its place."
            )
        order = _record(path, archive, records, f"{folder}byteorder") if f"{folder}byteorder" in records else b"little"
        if order != b"little":
            raise FileError(
                path, "was written on a big-endian machine.", remedy="Convert it to .safetensors on that machine."
            )
        document = pickle_machine.run(io.BytesIO(_record(path, archive, records, pickles[0])))
    prefix = f"{folder}data/"
    places = {}
    for name, info in records.items():
        if name.startswith(prefix):
            places[name.removeprefix(prefix)] = (_data_offset(path, file, info, size), info.file_size)
    return document, places


def _record(path: Path, archive: zipfile.ZipFile, records: Mapping[str, zipfile.ZipInfo], name: str) -> bytes:
    """Read a small record whole, which checks its CRC."""
    if records[name].file_size > LARGEST_PICKLE:
        raise FileError(path, f"holds a {name} of absurd size.", remedy=DOWNLOAD_AGAIN)
    with archive.open(records[name]) as record:
        data = record.read(LARGEST_PICKLE + 1)
        record.read(1)
    return data


def _data_offset(path: Path, file: Any, info: zipfile.ZipInfo, size: int) -> int:
    """The byte where a record's data begins; the local header's extra field differs from the directory's."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise FileError(
            path, "was packed again with compression or a password.", remedy="Use the file as its author published it."
        )
    file.seek(info.header_offset)
    signature, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    start = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    if signature != ZIP_START or start + info.file_size > size:
        raise FileError(path, f"is damaged: its record {info.filename} lies outside.", remedy=DOWNLOAD_AGAIN)
    return start


def _read_legacy(path: Path, file: Any, size: int) -> tuple[Any, _Places]:
    file.seek(0)
    pickles = io.BytesIO(file.read(LARGEST_PICKLE))
    if pickle_machine.run(pickles) != _LEGACY_MAGIC:
        raise FileError(path, "is a pickle, but not of weights.", remedy="Put the model's own weights in its place.")
    protocol, system = pickle_machine.run(pickles), pickle_machine.run(pickles)
    if protocol != _LEGACY_PROTOCOL or not (isinstance(system, dict) and system.get("little_endian") is True):
        raise FileError(path, "was written by an unknown kind of torch.", remedy="Get it as .safetensors.")
    document, keys = pickle_machine.run(pickles), pickle_machine.run(pickles)
    item_sizes = {storage.key: ITEM_SIZES[storage.dtype] for storage in _storages(document)}
    places, offset = {}, pickles.tell()
    for key in keys:
        file.seek(offset)
        header = file.read(8)
        if len(header) < 8:
            raise FileError(path, f"is cut short: {size:,} bytes are there.", remedy=DOWNLOAD_AGAIN)
        if key not in item_sizes:
            raise DamagedPickleError("a storage that no tensor uses")
        length = int.from_bytes(header, "little") * item_sizes[key]
        places[key] = (offset + 8, length)
        offset += 8 + length
    if offset > size:
        raise FileError(path, f"is cut short: {size:,} of {offset:,} bytes are there.", remedy=DOWNLOAD_AGAIN)
    return document, places


def _storages(document: Any) -> Iterator[Storage]:
    """All storages in a structure; each container is entered once, however often it is shared."""
    seen, waiting = set(), [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, StoredTensor):
            yield value.storage
        elif isinstance(value, Storage):
            yield value
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)


def _state_dict(document: Any) -> dict[str, StoredTensor]:
    """The named tensors: those of the structure itself, or of the dictionary that wraps it."""
    for _ in range(3):
        if not isinstance(document, dict):
            return {}
        wrapped = [document[key] for key in _WRAPPERS if isinstance(document.get(key), dict)]
        tensors = {key: value for key, value in document.items() if isinstance(value, StoredTensor)}
        if tensors or not wrapped:
            return {key: value for key, value in tensors.items() if isinstance(key, str)}
        document = wrapped[0]
    return {}


def _nameless(document: Any) -> str:
    if isinstance(document, list) and any(isinstance(value, StoredTensor) for value in document):
        return "is a list of tensors without names, as LoRAs of T2V-Turbo are, not a model's weights."
    return "holds no weights."


def _place(path: Path, tensor: StoredTensor, places: _Places) -> TensorRef:
    storage = tensor.storage
    if storage.key not in places:
        raise FileError(path, f"is damaged: its record data/{storage.key} is missing.", remedy=DOWNLOAD_AGAIN)
    start, length = places[storage.key]
    item = ITEM_SIZES[storage.dtype]
    if (storage.start + storage.numel) * item > length:
        raise FileError(
            path, f"is damaged: its record data/{storage.key} is shorter than its tensors.", remedy=DOWNLOAD_AGAIN
        )
    offset = start + storage.start * item + tensor.offset * ITEM_SIZES[tensor.dtype]
    return TensorRef(path, offset, tensor.dtype, tensor.shape, tensor.stride)
