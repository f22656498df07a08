"""Small moving pictures for live previews: quick to make, endless, and shown by every browser."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from t2v_core.media.png_file import SIGNATURE, chunk
from t2v_core.video import Frames

FORMATS = ("png", "webp")
"""What can move: an APNG, which shows every colour as it is, or a WebP, which is several times smaller."""

LIVE_SIDE = 128
"""Pixels of the longer side of a live preview: a page scales it up, and more would cost time and tell no more."""

_SHORTEST = 0.011  # seconds; browsers slow a picture down to 10 frames a second where one of its frames is shorter
_UP = 2  # the PNG filter that writes each line as its difference to the one above


def animation(frames: Frames, fps: float, *, format: str, longest_side: int = 256) -> bytes:
    """An endless animation of frames (f, h, w, 3) uint8 RGB, scaled smoothly so that its longer side is that long.

    Raises:
        ValueError: for a format that can't move ("jpeg"), and for what isn't frames.
    """
    if format not in FORMATS:
        raise ValueError(f"{format!r} can't hold a moving picture; {' and '.join(FORMATS)} can")
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(f"frames are (f, h, w, 3) uint8, not {frames.shape} {frames.dtype}")
    write = _apng if format == "png" else _webp
    return write([_scaled(frame, longest_side) for frame in frames], _durations(len(frames), fps))


class MovingImage(Image.Image):
    """The first frame of a clip as a picture like any other, but that `save` writes the whole clip.

    It is for a host that knows still pictures alone. What it makes of this one (`copy`, `convert`, `resize`) is still.
    """

    _clip: tuple[Frames, float] | None = None

    def save(  # pyright: ignore[reportIncompatibleMethodOverride] - Pillow's own signature differs between versions
        self, fp: str | os.PathLike[str] | IO[bytes], format: str | None = None, **params: Any
    ) -> None:
        """Write an APNG if `format` (or the file's name) says "png", else a WebP, under whatever name was asked for.

        Browsers look at what a picture holds and not at what it is called. The options of still pictures are ignored.
        """
        if self._clip is None:  # a copy made by pickle
            super().save(fp, format, **params)
            return
        is_path = isinstance(fp, (str, os.PathLike))
        wanted = (format or (Path(fp).suffix[1:] if is_path else "")).lower()
        frames, fps = self._clip
        content = animation(frames, fps, format="png" if wanted == "png" else "webp", longest_side=max(self.size))
        if is_path:
            Path(fp).write_bytes(content)
        else:
            fp.write(content)


def moving_image(frames: Frames, fps: float) -> MovingImage:
    """A picture that moves when it is saved, of frames (f, h, w, 3) uint8 RGB; only its first frame is scaled now."""
    image = MovingImage()
    image.__setstate__(_scaled(frames[0], LIVE_SIDE).__getstate__())
    image._clip = frames, fps
    return image


def _scaled(frame: Frames, longest_side: int) -> Image.Image:
    """One frame (h, w, 3) as a picture whose longer side is that long."""
    height, width = frame.shape[:2]
    scale = longest_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(np.ascontiguousarray(frame)).resize(size, Image.Resampling.BICUBIC)


def _durations(frames: int, fps: float) -> list[int]:
    """Milliseconds of each frame, whole numbers that together last as long as the clip."""
    ends = np.arange(frames + 1) * max(1 / fps, _SHORTEST) * 1000
    return np.diff(np.round(ends)).astype(int).tolist()


def _webp(pictures: list[Image.Image], durations: list[int]) -> bytes:
    content = io.BytesIO()
    first, *others = pictures
    # Without effort and without key frames it takes a fifth of the time, for about as many bytes.
    pace = {"method": 0, "kmin": 0, "kmax": 0}
    first.save(content, "webp", save_all=True, append_images=others, duration=durations, loop=0, quality=75, **pace)
    return content.getvalue()


def _apng(pictures: list[Image.Image], durations: list[int]) -> bytes:
    """As the PNG specification's third edition says. Pillow would take ten times as long: it lets nobody choose how."""
    width, height = pictures[0].size
    parts = [
        SIGNATURE,
        chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)),  # 8 bits of each colour
        chunk(b"acTL", struct.pack(">2I", len(pictures), 0)),  # endless
    ]
    number = 0
    for index, (picture, duration) in enumerate(zip(pictures, durations, strict=True)):
        control = struct.pack(">5I2H2B", number, width, height, 0, 0, duration, 1000, 0, 0)
        pixels = zlib.compress(_filtered(picture), 1)
        if index == 0:  # this one is also what a program shows that knows still pictures alone
            parts += [chunk(b"fcTL", control), chunk(b"IDAT", pixels)]
            number += 1
        else:
            parts += [chunk(b"fcTL", control), chunk(b"fdAT", struct.pack(">I", number + 1) + pixels)]
            number += 2
    return b"".join([*parts, chunk(b"IEND", b"")])


def _filtered(picture: Image.Image) -> bytes:
    """The lines of a picture, each as its difference to the one above, behind the number of that filter."""
    rows = np.asarray(picture).reshape(picture.height, -1)
    lines = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    lines[:, 0] = _UP
    lines[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
    return lines.tobytes()
