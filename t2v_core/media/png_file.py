"""The parts of PNG files, moving ones too, as the PNG specification's third edition says."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from t2v_core.media import PRESETS
from t2v_core.media.quality import effort
from t2v_core.video import Frames

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk, with its length and its sum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def chunks_in(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each chunk's kind and content."""
    start = len(SIGNATURE)
    while start + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, start)
        yield content[start + 4 : start + 8], content[start + 8 : start + 8 + length]
        start += length + 12


def text_chunk(text: str) -> bytes:
    """The infotext where the WebUI looks for it, in any script; nothing for an empty one."""
    return chunk(b"iTXt", b"parameters\0\0\0\0\0" + text.encode()) if text else b""


def encoded(frame: Frames, *, preset: str) -> bytes:
    """A frame (h, w, 3) as a PNG without text."""
    content = io.BytesIO()
    Image.fromarray(frame).save(content, "png", compress_level=1 + effort(preset, PRESETS, most=8))
    return content.getvalue()


def with_text(png: bytes, text: str) -> bytes:
    """A PNG with the infotext in front of its pixels."""
    first = len(SIGNATURE) + 25  # the header's chunk has always 13 bytes
    return png[:first] + text_chunk(text) + png[first:]
