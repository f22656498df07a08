"""Fonts for any script: Pillow's own, then what the system has, chosen character by character."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import ImageFont

# For the scripts that most people write, by the file names of Linux, Windows and macOS. Whatever else is installed is
# looked through after them.
_LIKELY = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "arial.ttf",
    "segoeui.ttf",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "msyh.ttc",
    "YuGothM.ttc",
    "malgun.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "AppleSDGothicNeo.ttc",
    "Nirmala.ttf",
    "LeelawUI.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "unifont.ttf",
)
_SUFFIXES = (".ttf", ".ttc", ".otf")
_MOST_INSTALLED = 1500
_NO_CHARACTER = "\U0010ffff"  # no font has it, so every font draws its sign for what it lacks


@functools.lru_cache(maxsize=8192)
def font_for(character: str, size: int) -> Any | None:
    """The first font that has a character, at a size in pixels; None if no font here has it."""
    return next((font for font in _fonts(size) if has(font, character)), None)


def has(font: Any, character: str) -> bool:
    """Whether a font draws something of its own for a character."""
    if character.isspace():
        return True
    if is_bitmap(font):
        return "!" <= character <= "~"
    try:
        return _drawn(font, character) != _drawn(font, _NO_CHARACTER)
    except (OSError, ValueError):  # files that promise more than they hold
        return False


@functools.lru_cache(maxsize=8)
def default_font(size: int) -> Any:
    """Pillow's own font at a size in pixels; before 10.1 that is tiny bitmaps, and a system's font is taken instead."""
    try:
        return ImageFont.load_default(size)  # pyright: ignore[reportCallIssue] - Pillow 10.1 and later
    except TypeError:
        found = map(functools.partial(_opened, size=size), _LIKELY)
        return next((font for font in found if font), None) or ImageFont.load_default()


def is_bitmap(font: Any) -> bool:
    """Whether it's the font of one size that old versions of Pillow have, which knows no place but a corner."""
    return isinstance(font, ImageFont.ImageFont)


def _fonts(size: int) -> Iterator[Any]:
    yield default_font(size)
    for name in (*_LIKELY, *_installed()):
        font = _opened(name, size=size)
        if font is not None:
            yield font


@functools.lru_cache(maxsize=512)
def _opened(name: str, *, size: int) -> Any | None:
    try:
        return ImageFont.truetype(name, size)
    except (OSError, ValueError):
        return None


def _drawn(font: Any, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


@functools.lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    """The font files of this machine, those first that have no style of their own."""
    found = []
    for folder in _folders():
        for place, _, names in os.walk(folder):
            found += [os.path.join(place, name) for name in names if name.lower().endswith(_SUFFIXES)]
            if len(found) > _MOST_INSTALLED:
                break
    return tuple(sorted(found, key=lambda path: ("regular" not in path.lower(), path)))


def _folders() -> list[Path]:
    home = Path.home()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", "")
        return [Path(os.environ.get("WINDIR", "C:/Windows"), "Fonts"), Path(local, "Microsoft/Windows/Fonts")]
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    return [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".local/share/fonts", home / ".fonts"]
