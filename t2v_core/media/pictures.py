"""Pictures that someone hands us, of any mode, size and turn, as RGB frames; animations too, frame by frame."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from t2v_core.errors import UnreadableFileError
from t2v_core.media.placing import CROP, place
from t2v_core.media.problems import shown
from t2v_core.media.reading import readable
from t2v_core.video import Frames

# Left out: what runs other programs (EPS), has no signature (TGA), or only names other files.
_FORMATS = (
    *("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO", "ICNS", "DDS"),
    *("PCX", "PSD", "SGI", "QOI", "XBM", "HEIF"),
)
_MOVING = ("GIF", "WEBP", "PNG")
MOST_PIXELS = 120_000_000
"""More than any camera's; what claims to have more is refused before it's unpacked."""

MOST_FRAMES = 5000
"""Of an animation; what comes after them isn't looked at."""

BACKGROUND = (255, 255, 255)
"""What shows through transparent pictures, as in the WebUI."""

_NO_PICTURE = (OSError, ValueError, SyntaxError, OverflowError, EOFError, IndexError, KeyError, MemoryError, TypeError)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_SHORTEST = 0.011
"""Seconds; what an animation shows shorter than that, browsers show for a tenth of a second."""


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """A picture's size as it's meant to be seen, and how long each of its frames is shown, in seconds; () for one."""

    width: int
    height: int
    durations: tuple[float, ...] = ()


def picture_facts(path: Path) -> PictureFacts | None:
    """What a picture is, remembered while it stays the same; None for a file that is no picture.

    Raises:
        UnreadableFileError: there is no such file, it may not be read, or it's a damaged picture.
    """
    status = readable(path).stat()
    return _facts(path.absolute(), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _facts(path: Path, _changed: int, _size: int) -> PictureFacts | None:
    with _opened(path) as picture:
        if picture is None:
            return None
        with _complaining(path):
            width, height = _turned_size(picture)
            return PictureFacts(width, height, tuple(_durations(picture)) if _is_moving(picture) else ())


def read_picture(path: Path, *, width: int, height: int, fit: str) -> Frames:
    """A picture, or an animation's first frame, as (height, width, 3) uint8 RGB.

    Raises:
        UnreadableFileError: no picture, or a damaged one.
    """
    with _opened(path) as picture:
        if picture is None:
            raise UnreadableFileError(f"{shown(path)} isn't a picture that can be read.")
        with _complaining(path):
            picture.seek(0)
            return _fitted(_as_rgb(_turned(picture)), (width, height), fit)


def read_moving(path: Path, *, width: int, height: int, fit: str) -> Iterator[Frames]:
    """Each frame of an animation, (height, width, 3) uint8 RGB, one after the other.

    Raises:
        UnreadableFileError: as `read_picture`; in the middle, after the frames before the damage.
    """
    with _opened(path) as picture:
        if picture is None:
            raise UnreadableFileError(f"{shown(path)} isn't a picture that can be read.")
        for index in range(getattr(picture, "n_frames", 1)):
            with _complaining(path):
                picture.seek(index)
                frame = _fitted(_as_rgb(picture), (width, height), fit)
            yield frame


def read_marks(path: Path, *, width: int, height: int, fit: str) -> Frames:
    """What a picture marks, (height, width) uint8, 255 where it does: its strokes if it's transparent, else its light.

    Raises:
        UnreadableFileError: as `read_picture`.
    """
    with _opened(path) as picture:
        if picture is None:
            raise UnreadableFileError(f"{shown(path)} isn't a picture that can be read.")
        with _complaining(path):
            picture.seek(0)
            turned = _turned(picture)
            opacity = _opacity(turned)
            marks = opacity if opacity is not None else _as_rgb(turned).convert("L")
            return _fitted(marks, (width, height), fit, smooth=False)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image | None]:
    """The picture in a file, whatever its name says; None if there is none in it."""
    readable(path)
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    try:
        picture = Image.open(path, formats=formats)
    except _BOMBS as error:
        raise _too_large(path) from error
    except _NO_PICTURE:
        yield None
        return
    with picture:
        if picture.width * picture.height > MOST_PIXELS:
            raise _too_large(path)
        yield picture


@contextlib.contextmanager
def _complaining(path: Path) -> Iterator[None]:
    """What Pillow raises for a damaged picture, as ours."""
    try:
        yield
    except UnreadableFileError:
        raise
    except _BOMBS as error:
        raise _too_large(path) from error
    except _NO_PICTURE as error:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise UnreadableFileError(f"{shown(path)} is a damaged picture ({reason}).") from error


def _too_large(path: Path) -> UnreadableFileError:
    return UnreadableFileError(
        f"{shown(path)} is larger than {MOST_PIXELS // 10**6} megapixels.", remedy="Make it smaller."
    )


def _is_moving(picture: Image.Image) -> bool:
    return picture.format in _MOVING and getattr(picture, "n_frames", 1) > 1


def _durations(picture: Image.Image) -> Iterator[float]:
    for index in range(min(getattr(picture, "n_frames", 1), MOST_FRAMES)):
        picture.seek(index)
        picture.load()  # WebP says it only then
        seconds = float(picture.info.get("duration") or 0) / 1000
        yield seconds if seconds >= _SHORTEST else 0.1


def _turned_size(picture: Image.Image) -> tuple[int, int]:
    turned = _orientation(picture) in (5, 6, 7, 8)
    return (picture.height, picture.width) if turned else picture.size


def _orientation(picture: Image.Image) -> Any:
    with contextlib.suppress(Exception):  # of all ways in which Exif can be wrong none is worth a picture
        return picture.getexif().get(0x0112, 1)
    return 1


def _turned(picture: Image.Image) -> Image.Image:
    """As the camera was held."""
    if _orientation(picture) in (1, None, 0):
        return picture
    with contextlib.suppress(UnicodeDecodeError, AttributeError, SyntaxError):
        return ImageOps.exif_transpose(picture) or picture
    return picture


def _as_rgb(picture: Image.Image) -> Image.Image:
    """8 bits a channel; transparent places become the background."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return _narrowed(picture).convert("RGB")
    opacity = _opacity(picture)
    if opacity is None:
        return picture.convert("RGB")
    background = Image.new("RGB", picture.size, BACKGROUND)
    background.paste(picture.convert("RGBA").convert("RGB"), mask=opacity)
    return background


def _narrowed(picture: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits, or of floating point, as 8 bits; Pillow itself would cut the light off."""
    values = np.nan_to_num(np.asarray(picture, dtype=np.float64), posinf=0, neginf=0)
    most = values.max(initial=0)
    if picture.mode == "F" and most <= 1:
        values = values * 255
    elif most > 255:
        values = values * (255 / max(65535, most))
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def _opacity(picture: Image.Image) -> Image.Image | None:
    """How opaque each place is, 255 for wholly; None for a picture that is so everywhere."""
    if "A" not in picture.getbands() and "transparency" not in picture.info and "a" not in picture.getbands():
        return None
    opacity = picture.convert("RGBA").getchannel("A")
    return None if opacity.getextrema()[0] == 255 else opacity


def _fitted(picture: Image.Image, into: tuple[int, int], fit: str, *, smooth: bool = True) -> Frames:
    """(height, width, …) uint8 of the size `into`; bars are black."""
    placing = place(*picture.size, into=into, fit=fit)
    resampling = Image.Resampling.LANCZOS if smooth else Image.Resampling.BILINEAR
    if fit == CROP and picture.size != (placing.width, placing.height):
        # What is cut off isn't scaled first: a strip of 100,000 by 1 pixels would become a giant.
        across, down = picture.width / placing.width, picture.height / placing.height
        left, top = placing.left * across, placing.top * down
        right, bottom = min(left + into[0] * across, picture.width), min(top + into[1] * down, picture.height)
        return np.array(picture.resize(into, resampling, (left, top, right, bottom)))
    if picture.size != (placing.width, placing.height):
        picture = picture.resize((placing.width, placing.height), resampling)
    frame = Image.new(picture.mode, into)
    frame.paste(picture, (-placing.left, -placing.top))
    return np.array(frame)
