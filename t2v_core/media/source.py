"""Videos that someone hands us, of whatever container, rate and shape: what they are, and the frames that are wanted.

ffmpeg decodes from the wanted start on and no further than the last wanted frame. Animated pictures are Pillow's, which
knows animated WebP and transparency.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from t2v_core.errors import UnreadableFileError
from t2v_core.media.ffmpeg import MORE_FORMATS, FfmpegError, reading
from t2v_core.media.pictures import picture_facts, read_moving
from t2v_core.media.placing import CROP, Placing, place
from t2v_core.media.problems import shown
from t2v_core.media.reading import readable, unreadable
from t2v_core.media.sequences import pictures_of, sequence_in
from t2v_core.video import Frames

COUNTED_WHOLE = 256 * 2**20
"""Bytes of a file up to which its frames are counted; of a film the header and the first seconds are read."""

_GLANCE = 10  # seconds
_CHUNK = 8 * 2**20  # bytes
_LONGEST_SIDE = 16384
_DURATION = re.compile(r"^Duration: (\d+):(\d\d):(\d\d\.\d+)", re.MULTILINE)
_SOUND = re.compile(r"^Stream #0:.*: Audio: ", re.MULTILINE)
_RATE = re.compile(r"^Stream #0:.*: Video: .*, ([\d.]+) fps", re.MULTILINE)
_HDR = re.compile(r"^Stream #0:.*: Video: .*(?:smpte2084|arib-std-b67)", re.MULTILINE)
# A picture for bright screens, with its light as 100 cd/m² screens show it (Hable's curve) and in their colors.
_TO_SDR = (
    "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,zscale=t=bt709:m=bt709:r=tv,"
    "format=yuv444p,"
)
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"mif1")
_ROUNDED = 0.006
"""ffmpeg tells rates in two decimals."""
_GIF_TICK, _NEAR = 0.0101, 0.015
_ALIKE = 0.05
_NO_TIME = 2**62
_ENOUGH = 0.9
"""The share of the frames that must have a time, or the file's own word is better."""
_SCALING = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """A picture (`frames` is 1 and `fps` 0) or a video: size as it's meant to be seen, average rate, seconds.

    `frames` is exact for what `is_counted`, else an estimate.
    """

    width: int
    height: int
    frames: int = 1
    fps: float = 0.0
    seconds: float = 0.0
    has_sound: bool = False
    is_counted: bool = True
    is_hdr: bool = False

    @property
    def is_still(self) -> bool:
        """Whether it's one picture without a time of its own."""
        return self.fps == 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which frames of a source: `frames` at `fps` from `start` (seconds) on, at a size, `fit` as in `placing`."""

    frames: int
    fps: float
    width: int
    height: int
    fit: str = CROP
    start: float = 0.0

    @property
    def rate(self) -> Fraction:
        """Frames per second as the fraction that was meant."""
        return Fraction(repr(float(self.fps))).limit_denominator(10_000)


def source_facts(path: Path) -> SourceFacts:
    """What a file is by its content, or a folder of pictures; remembered while it stays the same.

    Raises:
        UnreadableFileError: no such file, or neither a picture nor a video that can be read.
    """
    status = (path if os.path.isdir(path) else readable(path)).stat()
    return _facts(path.absolute(), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _facts(path: Path, _changed: int, size: int) -> SourceFacts:
    if os.path.isdir(path):
        sequence, count = sequence_in(path), len(pictures_of(path))
        return SourceFacts(sequence.width, sequence.height, count, sequence.fps, count / sequence.fps)
    picture = picture_facts(path)
    if picture is None:
        _check_no_heic(path)
        return _video_facts(path, size)
    if not picture.durations:
        return SourceFacts(picture.width, picture.height)
    durations = _evened(picture.durations)
    count, seconds = len(durations), sum(durations)
    return SourceFacts(picture.width, picture.height, count, count / seconds, seconds)


def _evened(durations: tuple[float, ...]) -> tuple[float, ...]:
    """Durations as they were meant: GIF knows hundredths of a second alone, and alternates where a rate needs more."""
    if not durations or max(durations) - min(durations) > _GIF_TICK:
        return durations
    fps = len(durations) / sum(durations)
    whole = max(1, round(fps))
    return (1 / whole,) * len(durations) if abs(whole - fps) < _NEAR * fps else durations


def _check_no_heic(path: Path) -> None:
    """A phone's picture is made of tiles, of which ffmpeg would take one for all of it."""
    with path.open("rb") as file:
        begin = file.read(64)
    if begin[4:8] == b"ftyp" and begin[8:12] in _HEIC and b"avif" not in begin:
        raise UnreadableFileError(f"{shown(path)} is a HEIC picture, which can't be read.", remedy="Save it as JPEG.")


def _video_facts(path: Path, size: int) -> SourceFacts:
    is_film = size > COUNTED_WHOLE
    frames, span = _packets(path, *(("-t", str(_GLANCE)) if is_film else ()))
    width, height, said = _look(path)
    fps = _rate(frames, span, said)
    if not fps:  # one frame, or no times at all: a picture in a video's clothes
        return SourceFacts(width, height)
    seconds, told = frames / fps, _DURATION.search(said)
    if is_film and told:
        seconds = int(told[1]) * 3600 + int(told[2]) * 60 + float(told[3])
        frames = round(seconds * fps)
    return SourceFacts(
        width, height, frames, fps, seconds, _SOUND.search(said) is not None, not is_film, _HDR.search(said) is not None
    )


def _rate(frames: int, span: float, said: str) -> float:
    """Frames per second as measured, unless the file tells nearly the same, or has no times to measure by."""
    measured = frames / span if span else 0.0
    told = _RATE.search(said)
    rate = float(told[1]) if told else 0.0
    if not rate or (span and abs(rate - measured) > _ALIKE * rate):
        return measured
    if rate.is_integer():
        return rate
    ntsc = round(rate) * 1000 / 1001
    if abs(ntsc - rate) < _ROUNDED:
        return ntsc
    return measured if abs(rate - measured) < _ROUNDED else rate


def _packets(path: Path, *limits: str) -> tuple[int, float]:
    """How many frames are stored, and the seconds that they take, 0 where many have no time; decodes nothing."""
    count, unit = 0, Fraction(1)
    times: list[tuple[int, int]] = []
    arguments = ("-map", "0:V:0", *limits, "-c", "copy", "-f", "framecrc", "pipe:1")
    try:
        with reading(path, *arguments, formats=MORE_FORMATS) as output:
            for line in output:
                text = line.decode(errors="replace")
                if text.startswith("#tb 0: "):
                    unit = Fraction(text[7:].strip())
                elif not text.startswith("#"):
                    count += 1
                    time, duration = (int(column) for column in text.split(",")[2:4])
                    if abs(time) < _NO_TIME:
                        times.append((time, duration))
    except FfmpegError as error:
        if not count:
            raise unreadable(path, error) from error
    if not count:
        raise UnreadableFileError(f"{shown(path)} has no pictures in it.")
    return count, float(_span(times) * unit) if len(times) > _ENOUGH * count else 0.0


def _span(times: list[tuple[int, int]]) -> Fraction:
    """From the first frame's beginning to the last one's end."""
    if not times:
        return Fraction(0)
    (first, _), (last, duration) = min(times), max(times)
    if duration > 0:
        return Fraction(last - first + duration)
    return Fraction((last - first) * len(times), max(1, len(times) - 1))


def _look(path: Path) -> tuple[int, int, str]:
    """Width and height as it's seen, turned and with square pixels, and what ffmpeg tells of the file."""
    said: list[str] = []
    square = f"scale=w=max(1\\,trunc(iw*sar+0.5)):h=ih:{_SCALING}"
    arguments = ("-map", "0:V:0", "-vf", square, "-frames:v", "1", "-c:v", "ppm", "-f", "image2pipe", "pipe:1")
    header = b""
    try:
        with reading(path, *arguments, formats=MORE_FORMATS, said=said) as output:
            header = b"".join(output.readline() for _ in range(2))
            while output.read(2**16):
                pass
    except FfmpegError as error:
        if not header.startswith(b"P6"):
            raise UnreadableFileError(f"{shown(path)} has no picture that can be decoded.") from error
    if not header.startswith(b"P6"):
        raise UnreadableFileError(f"{shown(path)} has no picture that can be decoded.")
    width, height = map(int, header.split()[1:3])
    return width, height, "\n".join(said)


def read_source(path: Path, wanted: Wanted) -> Iterator[Frames]:
    """The wanted frames in chunks (n, height, width, 3) uint8 RGB; fewer where the video ends before, or is damaged.

    What is shown longer than a frame is repeated, what is shorter may be left out: time stays what it was.

    Raises:
        UnreadableFileError: no frame at all can be read from there.
    """
    some = max(1, _CHUNK // (wanted.height * wanted.width * 3))
    frames = _frames(path, wanted)
    while chunk := list(itertools.islice(frames, some)):
        yield np.stack(chunk)


def _frames(path: Path, wanted: Wanted) -> Iterator[Frames]:
    facts, size = source_facts(path), {"width": wanted.width, "height": wanted.height, "fit": wanted.fit}
    if os.path.isdir(path):
        sequence = sequence_in(path)
        return _timed_frames(sequence.frames(**size), (1 / sequence.fps,) * len(sequence.paths), wanted)
    picture = picture_facts(path)
    if picture is None:
        return _video_frames(path, facts, wanted)
    return _timed_frames(read_moving(path, **size), _evened(picture.durations), wanted)


def _timed_frames(frames: Iterator[Frames], durations: tuple[float, ...], wanted: Wanted) -> Iterator[Frames]:
    """Frames of known durations (or one picture), each for as many of the wanted ones as it is shown."""
    shown_from = itertools.accumulate(durations, initial=0.0)
    slots = [round((time - wanted.start) * wanted.fps) for time in shown_from]
    done = 0
    for index, frame in enumerate(itertools.islice(frames, max(1, len(durations)))):
        end = min(slots[index + 1] if durations else 1, wanted.frames)
        while done < end:
            yield frame
            done += 1
        if done >= wanted.frames:
            return


def _video_frames(path: Path, facts: SourceFacts, wanted: Wanted) -> Iterator[Frames]:
    placing = place(facts.width, facts.height, into=(wanted.width, wanted.height), fit=wanted.fit)
    size = wanted.height * wanted.width * 3
    begin = "setpts=PTS-STARTPTS," if wanted.start == 0 else ""
    # A quarter of a frame early, or rounding might lose the very frame that begins there.
    start = max(0.0, wanted.start - 0.25 / wanted.fps)
    timing = f"{begin}fps=fps={wanted.rate}:start_time=0:round=near,"
    filters = timing + (_TO_SDR if facts.is_hdr else "") + _filters(facts, placing)
    arguments = ("-map", "0:V:0", "-vf", filters, "-frames:v", str(wanted.frames))
    before = ("-ss", f"{start:.6f}") if wanted.start else ()
    done = 0
    try:
        with reading(
            path, *arguments, "-pix_fmt", "rgb24", "-f", "rawvideo", "pipe:1", before=before, formats=MORE_FORMATS
        ) as output:
            while len(pixels := output.read(size)) == size:
                yield np.frombuffer(pixels, np.uint8).reshape(wanted.height, wanted.width, 3)
                done += 1
    except FfmpegError as error:
        if not done and facts.is_hdr:  # an ffmpeg that can't convert light: better pale than not at all
            yield from _video_frames(path, dataclasses.replace(facts, is_hdr=False), wanted)
            return
        if not done:
            raise unreadable(path, error) from error
    if not done:
        raise UnreadableFileError(f"{shown(path)} has no pictures from {wanted.start:g} s on.")


def _filters(facts: SourceFacts, placing: Placing) -> str:
    """Scaling and cutting, or bars, to the wanted size."""
    into = f"{placing.into_width}:{placing.into_height}"
    if max(placing.width, placing.height) > _LONGEST_SIDE:  # cut first, or ffmpeg would refuse a giant
        width = max(1, facts.width * placing.into_width // placing.width)
        height = max(1, facts.height * placing.into_height // placing.height)
        return f"scale={facts.width}:{facts.height},format=rgb24,crop={width}:{height},scale={into}:{_SCALING},setsar=1"
    scaled = f"scale={placing.width}:{placing.height}:{_SCALING},format=rgb24"
    if placing.left < 0 or placing.top < 0:
        return f"{scaled},pad={into}:{-placing.left}:{-placing.top},setsar=1"
    return f"{scaled},crop={into}:{placing.left}:{placing.top},setsar=1"
