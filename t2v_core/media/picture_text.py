"""The recipe in a picture of any kind: where we write it, and every place in which the WebUI or we have put one."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from PIL import Image

from t2v_core.errors import UnreadableFileError
from t2v_core.media.problems import shown

SUFFIXES = (".png", ".apng", ".webp", ".gif", ".jpg", ".jpeg")
"""Of files that a person sees as pictures, although some of them move."""

_EXIF, _USER_COMMENT = 0x8769, 0x9286
_LONGEST_SEGMENT = 65533
_COMMENT, _EXIF_SEGMENT = 0xFE, 0xE1
_OURS = b"txt2video\0"


def is_picture(begins: bytes) -> bool:
    """Whether a file that begins so is a PNG, GIF, WebP or JPEG."""
    return (
        begins.startswith((b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"\xff\xd8\xff"))
        or begins[:4] + begins[8:12] == b"RIFFWEBP"
    )


def text_in(path: Path) -> str | None:
    """The infotext in a picture; None if there is none.

    Raises:
        UnreadableFileError: it isn't a picture that can be read.
    """
    try:
        with Image.open(path) as picture:
            info: Mapping[Any, Any] = picture.info
            comment = picture.getexif().get_ifd(_EXIF).get(_USER_COMMENT)
        ours = _long_comment(path)
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise UnreadableFileError(f"{shown(path)} isn't a picture that can be read.") from error
    for text in (ours, info.get("parameters"), _decoded(comment), info.get("comment")):
        if text:
            return text.decode("utf-8", errors="replace") if isinstance(text, bytes) else str(text)
    return None


def exif_with(text: str) -> bytes:
    """Exif data whose user comment is the text, as the WebUI writes it into WebP and JPEG."""
    comment = b"UNICODE\0" + text.encode("utf-16-be")
    directory = struct.pack("<HHHIII", 1, _EXIF, 4, 1, 26, 0)
    entry = struct.pack("<HHHIII", 1, _USER_COMMENT, 7, len(comment), 44, 0)
    return b"II*\0\x08\0\0\0" + directory + entry + comment


def jpeg_with_text(jpeg: bytes, text: str) -> bytes:
    """A JPEG with the infotext in its Exif data; one that is too long for that stands in comments of its own."""
    if not text:
        return jpeg
    exif = b"Exif\0\0" + exif_with(text)
    if len(exif) <= _LONGEST_SEGMENT:
        return jpeg[:2] + _segment(_EXIF_SEGMENT, exif) + jpeg[2:]
    content, room = text.encode(), _LONGEST_SEGMENT - len(_OURS)
    pieces = (content[start : start + room] for start in range(0, len(content), room))
    return jpeg[:2] + b"".join(_segment(_COMMENT, _OURS + piece) for piece in pieces) + jpeg[2:]


def _segment(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(content) + 2) + content


def _long_comment(path: Path) -> str:
    """What `jpeg_with_text` has put into several comments."""
    with path.open("rb") as file:
        if file.read(2) != b"\xff\xd8":
            return ""
        pieces = [piece.removeprefix(_OURS) for piece in _comments(file) if piece.startswith(_OURS)]
    return b"".join(pieces).decode(errors="replace")


def _comments(file: IO[bytes]) -> Iterator[bytes]:
    """The comments before a JPEG's pixels."""
    while len(head := file.read(4)) == 4 and head[0] == 0xFF and head[1] != 0xDA:
        length = struct.unpack(">H", head[2:])[0] - 2
        content = file.read(max(0, length))
        if head[1] == _COMMENT:
            yield content


def _decoded(comment: Any) -> str:
    """Exif's user comment, whose first eight bytes name its encoding."""
    if not isinstance(comment, bytes):
        return comment or ""
    encoding, text = comment[:8].rstrip(b"\0"), comment[8:]
    return text.decode("utf-16-be" if encoding == b"UNICODE" else "utf-8", errors="replace").strip("\0")
