"""Pictures and videos as people have them: of every mode, turn, rate and container, and broken in every way."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from t2v_core.media import ffmpeg

Make = Callable[[Path], None]


def run_ffmpeg(*arguments: Any) -> None:
    """ffmpeg, quietly; the last argument is the file to be made."""
    subprocess.run([ffmpeg.executable(), "-v", "error", "-y", *map(str, arguments)], check=True)


def video(*arguments: Any, size: str = "48x40", seconds: float = 1, rate: Any = 8) -> Make:
    """A moving test picture, encoded with these arguments."""

    def make(path: Path) -> None:
        run_ffmpeg("-f", "lavfi", "-i", f"testsrc=s={size}:d={seconds}:r={rate}", *arguments, path)

    return make


def looped(make: Make, *, times: int) -> Make:
    """Another video so many times over, without encoding it again."""

    def made(path: Path) -> None:
        part = path.with_name(f"part{path.suffix}")
        make(part)
        run_ffmpeg("-stream_loop", times - 1, "-i", part, "-c", "copy", path)
        part.unlink()

    return made


def with_sound(*arguments: Any) -> Make:
    """As `video`, with a tone beside it."""
    return video("-f", "lavfi", "-i", "sine=d=1", "-shortest", *arguments)


def sound_only(*arguments: Any) -> Make:
    """A tone without any picture."""
    return lambda path: run_ffmpeg("-f", "lavfi", "-i", "sine=d=1", *arguments, path)


def content(data: bytes) -> Make:
    """Exactly these bytes."""
    return lambda path: path.write_bytes(data) and None


def cut(make: Make, *, keep: float) -> Make:
    """The first part of another file."""

    def made(path: Path) -> None:
        make(path)
        data = path.read_bytes()
        path.write_bytes(data[: max(1, int(len(data) * keep))])

    return made


def scrambled(make: Make, *, begin: float) -> Make:
    """Another file, whose bytes from there on are noise."""

    def made(path: Path) -> None:
        make(path)
        data = bytearray(path.read_bytes())
        first = int(len(data) * begin)
        data[first:] = np.random.default_rng(0).integers(0, 256, len(data) - first, dtype=np.uint8).tobytes()
        path.write_bytes(bytes(data))

    return made


def named(make: Make, suffix: str) -> Make:
    """A file made under its right suffix, which then lies under the path's wrong one."""

    def made(path: Path) -> None:
        right = path.with_suffix(suffix)
        make(right)
        os.replace(right, path)

    return made


def picture(mode: str = "RGB", size: tuple[int, int] = (48, 40), **saved: Any) -> Make:
    """A picture of some mode; what can't be saved as its suffix says needs `format`."""

    def make(path: Path) -> None:
        colours = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        made = Image.fromarray(colours)
        if mode == "I;16":
            made = Image.fromarray(colours[..., 0].astype(np.uint16) * 256)
        elif mode in ("I", "F"):
            made = made.convert("L").convert(mode)
        elif mode == "PA":
            made = made.convert("P")
            saved["transparency"] = 0
        else:
            made = made.convert(mode)
        made.save(path, **saved)

    return make


def turned(orientation: int) -> Make:
    """A picture that a camera held another way, as Exif says."""

    def make(path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (48, 40), (200, 10, 10)).save(path, exif=exif)

    return make


def animation(frames: int = 3, **saved: Any) -> Make:
    """Some frames, each of another colour."""

    def make(path: Path) -> None:
        pictures = [Image.new("RGB", (48, 40), (12 * index, 255 - 12 * index, 40)) for index in range(frames)]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], **saved)

    return make


def bomb(path: Path) -> None:
    """A PNG of a few bytes that claims to have thousands of megapixels."""
    data = io.BytesIO()
    Image.new("L", (8, 8)).save(data, "PNG")
    head = bytearray(data.getvalue())
    head[16:24] = (60000).to_bytes(4, "big") * 2
    import zlib

    head[29:33] = zlib.crc32(bytes(head[12:29])).to_bytes(4, "big")
    path.write_bytes(bytes(head))


def playlist(path: Path) -> None:
    """A file that makes a careless ffmpeg open another one."""
    path.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n")


def concat_script(path: Path) -> None:
    """Another one."""
    path.write_text("ffconcat version 1.0\nfile /etc/hostname\n")
