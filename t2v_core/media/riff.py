"""RIFF, the container of WebP: named chunks, each with its length before it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

HEAD = 12
"""Bytes before the first chunk: "RIFF", the length of the rest, and the kind of file."""


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk; what is odd in length is padded."""
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def chunks_in(content: bytes, start: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """Each chunk's kind and content, up to the first that is cut short."""
    while start + 8 <= len(content):
        kind, length = content[start : start + 4], struct.unpack_from("<I", content, start + 4)[0]
        if start + 8 + length > len(content):
            return
        yield kind, content[start + 8 : start + 8 + length]
        start += 8 + length + length % 2


def chunks_of(file: IO[bytes], *, first: int) -> Iterator[tuple[bytes, bytes]]:
    """Each chunk's kind and the first so many bytes of its content, of a file that stands behind its head."""
    while len(head := file.read(8)) == 8:
        length = struct.unpack("<I", head[4:])[0]
        begins = file.read(min(length, first))
        if len(begins) < min(length, first):
            return
        file.seek(length + length % 2 - len(begins), 1)
        yield head[:4], begins
