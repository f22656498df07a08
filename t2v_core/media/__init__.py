"""Videos as files: the table of formats that we write; importing this package loads no encoder."""

from __future__ import annotations

import enum
import functools
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from t2v_core.video import Frames

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
"""The encoder's presets, from large files made fast to small files made slowly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """What a writer must know before the first frame: size in pixels, frames per second, infotext and quality.

    `crf` is H.264's; every other format's own scale is chosen to look like it. `loop_count` is how often an animation
    is shown, 0 without end. `sound` is a file of samples, as `t2v_core.media.wav` says, as long as the clip,
    for formats that have sound.
    """

    width: int
    height: int
    fps: float | Fraction
    infotext: str = ""
    crf: int = 17
    preset: str = "medium"
    loop_count: int = 0
    sound: Path | None = None

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1 or self.fps <= 0:
            raise ValueError(f"no video has {self.width}x{self.height} pixels at {self.fps} frames per second")

    @property
    def rate(self) -> Fraction:
        """Frames per second as the fraction that was meant: 23.976 is 2997/125, Fraction(24000, 1001) is itself."""
        if isinstance(self.fps, Fraction):
            return self.fps
        return Fraction(repr(float(self.fps))).limit_denominator(10_000)


Write = Callable[[Path, Iterable[Frames], Encoding], int]
"""`write(target, chunks, encoding)` makes the file `target` of chunks of frames, each (f, h, w, 3) uint8 RGB, as they
come, and returns how many frames it holds. All chunks are taken.

`target` may exist already and may have any suffix; for a sequence of pictures it's an empty folder. When it returns,
the file is whole. On any exception, its own or one out of `chunks`, the encoder has ended, and `target` is the
caller's to remove.

Raises:
    OutputError: the encoder can't write this size, died, or the disk is full (then it is `DiskFullError`).
    ValueError: a chunk isn't of the size that was said.
"""


class Shown(str, enum.Enum):
    """What a browser makes of a file."""

    VIDEO = "video"
    PICTURE = "picture"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """A row: the format's name, its files' suffix, the module with its `write`, and a sentence for the user.

    `variant` is the row of the module's own table where it writes several formats. `colors` says what a decoded pixel
    is to the one that was given. `bytes_per_pixel` is what a frame's pixel takes at most, measured on noise at quality
    0. With `is_folder` the file is a folder of pictures. `most_frames` is how many it holds, where that is limited.
    """

    name: str
    suffix: str
    module: str
    help: str
    colors: str
    bytes_per_pixel: float
    variant: str = ""
    shown: Shown = Shown.VIDEO
    has_sound: bool = False
    is_folder: bool = False
    most_frames: int | None = None

    def load(self) -> Write:
        """The format's `write`, imported now."""
        write = importlib.import_module(self.module).write
        return functools.partial(write, variant=self.variant) if self.variant else write

    def check(self) -> None:
        """See that this machine can write it.

        Raises:
            OutputError: it can't.
        """
        if self.module == _FILM:
            from t2v_core.media.film_codecs import check_film

            check_film(self.variant)


_FILM, _STILLS = "t2v_core.media.film", "t2v_core.media.stills"
_HALVED = "within 2 levels, but for edges in color: color has half the resolution"
_EXACT = "exact"

WRITERS = {
    writer.name: writer
    for writer in (
        Writer(
            name="mp4",
            bytes_per_pixel=2.0,
            suffix=".mp4",
            module=_FILM,
            variant="h264",
            has_sound=True,
            help="H.264, which plays everywhere: browsers, phones, TVs.",
            colors=_HALVED,
        ),
        Writer(
            name="mp4-h265",
            bytes_per_pixel=1.8,
            suffix=".mp4",
            module=_FILM,
            variant="h265",
            has_sound=True,
            help="H.265: smaller; Apple's devices and most new ones play it.",
            colors=_HALVED,
        ),
        Writer(
            name="mp4-av1",
            bytes_per_pixel=2.6,
            suffix=".mp4",
            module=_FILM,
            variant="av1",
            has_sound=True,
            help="AV1 in 10 bits: smallest and smoothest; new browsers and devices play it.",
            colors=_HALVED,
        ),
        Writer(
            name="webm",
            bytes_per_pixel=1.5,
            suffix=".webm",
            module=_FILM,
            variant="vp9",
            has_sound=True,
            help="VP9, which every browser plays.",
            colors=_HALVED,
        ),
        Writer(
            name="webm-av1",
            bytes_per_pixel=2.6,
            suffix=".webm",
            module=_FILM,
            variant="webm-av1",
            has_sound=True,
            help="AV1 in 10 bits, for new browsers.",
            colors=_HALVED,
        ),
        Writer(
            name="avi",
            bytes_per_pixel=2.1,
            suffix=".avi",
            module=_FILM,
            variant="avi",
            has_sound=True,
            shown=Shown.NOTHING,
            help="H.264 in the old container, for programs that take nothing else.",
            colors=_HALVED,
        ),
        Writer(
            name="mov",
            bytes_per_pixel=5.1,
            suffix=".mov",
            module=_FILM,
            variant="prores",
            has_sound=True,
            shown=Shown.NOTHING,
            help="ProRes 4444, large and nearly without loss: for editing.",
            colors="within 2 levels",
        ),
        Writer(
            name="gif",
            bytes_per_pixel=1.5,
            suffix=".gif",
            module="t2v_core.media.gif",
            shown=Shown.PICTURE,
            help="256 colors chosen for the clip, shown wherever pictures are; at most 50 frames per second.",
            colors="exact up to 255 colors; beyond that dithered, so that areas keep their color",
        ),
        Writer(
            name="webp",
            bytes_per_pixel=3.1,
            suffix=".webp",
            module="t2v_core.media.webp",
            shown=Shown.PICTURE,
            help="An animated picture in all colors, much smaller than a gif.",
            colors=_HALVED + "; exact at quality 0",
        ),
        Writer(
            name="apng",
            bytes_per_pixel=3.1,
            suffix=".apng",
            module="t2v_core.media.apng",
            shown=Shown.PICTURE,
            help="An animated PNG: every pixel exact, and large.",
            colors=_EXACT,
        ),
        Writer(
            name="png-sequence",
            bytes_per_pixel=3.1,
            suffix="",
            module=_STILLS,
            variant="png-sequence",
            shown=Shown.NOTHING,
            is_folder=True,
            help="A folder with each frame as PNG, every pixel exact.",
            colors=_EXACT,
        ),
        Writer(
            name="jpeg-sequence",
            bytes_per_pixel=4.3,
            suffix="",
            module=_STILLS,
            variant="jpeg-sequence",
            shown=Shown.NOTHING,
            is_folder=True,
            help="A folder with each frame as JPEG.",
            colors="within 2 levels where the picture is smooth",
        ),
        Writer(
            name="png",
            bytes_per_pixel=3.1,
            suffix=".png",
            module=_STILLS,
            variant="png",
            shown=Shown.PICTURE,
            most_frames=1,
            help="The first frame alone, as PNG.",
            colors=_EXACT,
        ),
    )
}
"""Every format by name, the default first."""


def shown_as(path: Path) -> Shown:
    """What a browser makes of a file or folder that we have written, by its name."""
    found = (writer.shown for writer in WRITERS.values() if writer.suffix and writer.suffix == path.suffix)
    return next(found, Shown.NOTHING)


def checked_chunk(chunk: Frames, encoding: Encoding) -> Frames:
    """The chunk itself, or a ValueError that says what is wrong with it."""
    if chunk.ndim != 4 or chunk.shape[1:] != (encoding.height, encoding.width, 3) or chunk.dtype.name != "uint8":
        raise ValueError(
            f"frames are (f, {encoding.height}, {encoding.width}, 3) uint8 here, not {chunk.shape} {chunk.dtype}"
        )
    return chunk
