"""Whether a file is there, readable and what its name says, told from its size and first bytes."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from t2v_core.errors import WeightsError
from t2v_core.models.tensors import FileError

DOWNLOAD_AGAIN = "Delete it and download it again."
FROM_THE_FILE_PAGE = (
    "Delete it and download the file itself: on its page, use the download button, "
    "or the link that has /resolve/ in it, not /blob/."
)

LEFTOVER_SUFFIXES = (".crdownload", ".part", ".partial", ".download", ".opdownload", ".aria2", ".incomplete", ".tmp")
_SECOND_COPY = re.compile(r"^(?P<stem>.+?) ?\(\d+\)(?P<suffix>\.\w+)$")

# First bytes (after white space, in lower case) of what downloads turn into when they go wrong.
_FOREIGN_STARTS = (
    ((b"<!doctype", b"<html", b"<head", b"<?xml", b"<body"), "is a web page, not {kind}", FROM_THE_FILE_PAGE),
    (
        (b"version https://git-lfs",),
        "is a Git LFS pointer, not {kind}: the real file was never fetched",
        'Run "git lfs install" and "git lfs pull" in that folder, or download the file from its page.',
    ),
)
_ARCHIVE_STARTS = {
    b"\x1f\x8b": "gzip",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!": "RAR",
    b"\xfd7zXZ": "xz",
    b"GGUF": "GGUF",
    b"\x89HDF": "HDF5",
}
_HEAD_BYTES = 512
_LARGEST_JSON = 64 * 2**20


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading; whatever the system says against it becomes a `FileError` with the remedy."""
    try:
        if path.is_dir():
            raise FileError(path, "is a folder, not a file.", remedy="Put the file itself in its place.")
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise missing(path) from None
    except PermissionError:
        raise FileError(
            path, "can't be opened: no permission to read it.", remedy="Give your user the right to read this file."
        ) from None
    except OSError as error:
        raise FileError(
            path, f"can't be read: {error.strerror or error}.", remedy="Check the disk, or copy the file here again."
        ) from None


@contextlib.contextmanager
def damage_named(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a damaged or hostile file provokes in a parser into a `FileError`."""
    try:
        yield
    except (WeightsError, OSError):
        raise
    except Exception as error:
        # Deliberately everything: no bytes of a file may reach the user as a traceback.
        raise FileError(
            path,
            f"is damaged: {kind} can't be read ({type(error).__name__}: {str(error)[:200]}).",
            remedy=DOWNLOAD_AGAIN,
        ) from error


def first_bytes(path: Path, *, kind: str) -> tuple[bytes, int]:
    """The first bytes and the size of a file that may be `kind`.

    Raises:
        FileError: when it's missing, unreadable, empty, a web page, a Git LFS pointer, or another archive.
    """
    with opened(path) as file:
        head = file.read(_HEAD_BYTES)
        size = file.seek(0, 2)
    if size == 0:
        raise FileError(path, "is empty.", remedy=DOWNLOAD_AGAIN)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for starts, what, remedy in _FOREIGN_STARTS:
        if start.startswith(starts):
            raise FileError(path, what.format(kind=kind) + ".", remedy=remedy)
    for archive_start, name in _ARCHIVE_STARTS.items():
        if head.startswith(archive_start):
            raise FileError(
                path,
                f"is a {name} file, not {kind}.",
                remedy="Unpack it if it is an archive, or get the original file.",
            )
    if not head.strip(b"\0"):
        raise FileError(path, "begins with zeros only: a download that never finished.", remedy=DOWNLOAD_AGAIN)
    return head, size


def read_json(path: Path) -> dict[str, Any]:
    """Parse a file that holds one JSON object.

    Raises:
        FileError: when it isn't whole, isn't JSON, or isn't an object.
    """
    _, size = first_bytes(path, kind="a JSON file")
    if size > _LARGEST_JSON:
        raise FileError(path, f"is {size:,} bytes long, too long for a JSON file.", remedy=DOWNLOAD_AGAIN)
    with opened(path) as file:
        text = file.read(_LARGEST_JSON)
    try:
        # Editors on Windows put a byte order mark before the text.
        document = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise FileError(path, f"is not valid JSON: {error}.", remedy=DOWNLOAD_AGAIN) from error
    if not isinstance(document, dict):
        raise FileError(path, "is JSON, but not an object in braces.", remedy=DOWNLOAD_AGAIN)
    return document


def missing(path: Path) -> FileError:
    """The problem of a file that isn't there; the remedy looks at what lies in its place."""
    for neighbour in _neighbours(path.parent):
        if neighbour.name.lstrip(".").startswith(path.name) and neighbour.suffix in LEFTOVER_SUFFIXES:
            return FileError(
                path,
                f"is missing, but {neighbour.name} is there: a download that hasn't finished.",
                remedy="Let the download finish, or delete the left-over and start it again.",
            )
        if second_copy_of(neighbour.name) == path.name:
            return FileError(
                path, f"is missing, but {neighbour.name} is there.", remedy=f"Rename {neighbour.name} to {path.name}."
            )
    return FileError(path, "is missing.", remedy=f"Put {path.name} into {path.parent}.")


def second_copy_of(name: str) -> str | None:
    """The name that a browser changed to "name (1)" because the file was there already."""
    match = _SECOND_COPY.match(name)
    return match and match["stem"] + match["suffix"]


def _neighbours(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
