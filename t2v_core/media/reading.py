"""Reading videos that someone hands us: the text in their metadata, what they are, and their frames."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from t2v_core.errors import UnreadableFileError
from t2v_core.media.ffmpeg import INSTALL_REMEDY, NO_FFMPEG, FfmpegError, metadata_in, reading
from t2v_core.media.picture_frames import Pictures, pictures_in
from t2v_core.media.picture_text import is_picture, text_in
from t2v_core.media.problems import shown
from t2v_core.video import Frames

# Seconds a frame while decoding: so long that a frame's own duration rounds to none, or the last one would be repeated
# to fill it.
_TICK = 10_000
_ROUNDED = Fraction(1, 1000)
_LONGEST_TEXT = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Probe:
    """What a video file is: its frames are counted, not guessed from its duration, which is in seconds.

    `fps` is the average, exact where the file is; 0 if the file has no times. `width` and `height` are as stored.
    """

    frames: int
    fps: Fraction
    width: int
    height: int
    codec: str
    duration: Fraction


def read_metadata(path: Path) -> str | None:
    """The infotext in a video or picture, exactly, or the content of a .txt file; None if there is none in it.

    A video that was cut short still tells its recipe if its head is whole. A folder of pictures tells its first one's.

    Raises:
        UnreadableFileError: the file is missing, empty, not to be read, or neither a video nor a text.
    """
    if (pictures := _folder(path)) is not None:
        return text_in(pictures.paths[0])
    path = readable(path)
    if path.suffix.lower() == ".txt":
        return _text(path)
    with path.open("rb") as file:
        begins = file.read(12)
    if is_picture(begins):
        return text_in(path)
    try:
        with reading(path, "-f", "ffmetadata", "pipe:1") as output:
            text = output.read()
    except FfmpegError as error:
        raise unreadable(path, error) from error
    return metadata_in(text).get("comment")


def probe(path: Path) -> Probe:
    """What kind of video a file is, or a folder of pictures; reads it whole, but decodes nothing.

    A format made for streams (mkv, webm, gif) that is cut short is a shorter video; an mp4 is an error.

    Raises:
        UnreadableFileError: as `read_metadata`, and for a video that is cut short or has no pictures.
    """
    pictures = _folder(path) or pictures_in(readable(path))
    if pictures is not None:
        return _probed(pictures)
    path = Path(path)
    facts: dict[str, str] = {}
    packets: list[tuple[int, int]] = []  # presentation time and duration, in the file's own unit of time
    try:
        # framecrc is one line a packet, and "#key 0: value" lines before them.
        with reading(path, "-map", "0:v:0", "-c", "copy", "-f", "framecrc", "pipe:1") as output:
            for line in output:
                text = line.decode(errors="replace")
                if text.startswith("#"):
                    key, _, value = text[1:].partition(" 0: ")
                    facts[key] = value.strip()
                else:
                    columns = text.split(",")
                    packets.append((int(columns[2]), int(columns[3])))
    except FfmpegError as error:
        raise unreadable(path, error) from error
    if not packets:
        raise UnreadableFileError(f"{shown(path)} has no pictures in it.")
    unit = Fraction(facts["tb"])
    # Matroska's durations are cut down to its unit, milliseconds; its times are rounded, and so together more exact.
    durations = [duration if unit != _ROUNDED or len(packets) == 1 else 0 for _, duration in packets]
    duration = unit * _duration([time for time, _ in packets], durations)
    width, height = facts["dimensions"].split("x")
    fps = len(packets) / duration if duration else Fraction(0)
    return Probe(len(packets), fps, int(width), int(height), facts.get("codec_id", ""), duration)


def read_frames(path: Path) -> Frames:
    """All frames of a video, (f, h, w, 3) uint8 RGB, exactly as often as they are stored.

    Raises:
        UnreadableFileError: as `probe`.
    """
    return np.stack(list(iterate_frames(path)))


def iterate_frames(path: Path) -> Iterator[Frames]:
    """A video's frames one after the other, each (h, w, 3) uint8 RGB; one at least, or an error.

    Colours are converted by the matrix that the file names, and the same way on every machine. Pictures are turned as
    the file says. Frames are numbered instead of timed, so that none is dropped or shown twice.

    Raises:
        UnreadableFileError: as `probe`; for a file that is damaged further on, after the frames before.
    """
    pictures = _folder(path) or pictures_in(readable(path))
    if pictures is not None:
        yield from pictures.frames()
        return
    path = Path(path)
    filters = f"settb={_TICK},setpts=N,scale=flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
    arguments = [
        "-map",
        "0:v:0",
        "-vf",
        filters,
        "-r",
        f"1/{_TICK}",
        "-pix_fmt",
        "rgb24",
        "-c:v",
        "ppm",
        "-f",
        "image2pipe",
    ]
    empty = True
    try:
        with reading(path, *arguments, "pipe:1") as output:
            # Each picture is "P6\n<width> <height>\n255\n" and the pixels.
            while output.readline():
                width, height = map(int, output.readline().split())
                output.readline()
                pixels = output.read(width * height * 3)
                if len(pixels) < width * height * 3:
                    break
                empty = False
                yield np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
    except FfmpegError as error:
        raise unreadable(path, error) from error
    if empty:
        raise UnreadableFileError(f"{shown(path)} has no pictures in it.")


def _folder(path: Path) -> Pictures | None:
    """What is in a folder of pictures, for which `readable` says that it's none."""
    path = Path(path)
    try:
        return pictures_in(path) if path.is_dir() else None
    except (OSError, ValueError):
        return None


def _probed(pictures: Pictures) -> Probe:
    width, height, kind = pictures.size()
    durations = pictures.durations()
    duration = sum(durations, Fraction(0))
    fps = len(durations) / duration if duration else Fraction(0)
    return Probe(len(durations), fps, width, height, kind, duration)


def _duration(times: list[int], durations: list[int]) -> Fraction:
    """The sum of the packets' durations, or, in files that don't store them, what the times say."""
    if all(duration > 0 for duration in durations):
        return Fraction(sum(durations))
    span = max(times) - min(times)
    return Fraction(span * len(times), len(times) - 1) if span > 0 else Fraction(0)


def readable(path: Path) -> Path:
    """The path, of a regular file that isn't empty and may be read: ffmpeg would wait on a pipe for ever."""
    path = Path(path)
    name = shown(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UnreadableFileError(f"{name} is a folder, not a video.")
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableFileError(f"{name} is no ordinary file.")
        if status.st_size == 0:
            raise UnreadableFileError(f"{name} is empty.")
        with path.open("rb"):
            return path
    except FileNotFoundError as error:
        raise UnreadableFileError(f"There is no file {name}.") from error
    except PermissionError as error:
        raise UnreadableFileError(f"{name} may not be read by you.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise UnreadableFileError(f"{name} can't be read: {reason}.") from error


def _text(path: Path) -> str:
    if path.stat().st_size > _LONGEST_TEXT:
        raise UnreadableFileError(f"{shown(path)} is too long to be the text of a video's settings.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"{shown(path)} isn't a text in UTF-8.") from error
    if "\0" in text:
        raise UnreadableFileError(f"{shown(path)} isn't a text.")
    return text


def unreadable(path: Path, error: FfmpegError) -> UnreadableFileError:
    """What ffmpeg's complaint about a file means, in a sentence."""
    name, log = shown(path), str(error)
    reason = log.partition("\n")[0]
    if reason == NO_FFMPEG:
        return UnreadableFileError(f"{name} can't be read: there is no ffmpeg.", remedy=INSTALL_REMEDY)
    if "matches no streams" in log:
        return UnreadableFileError(f"{name} has no pictures in it.")
    with path.open("rb") as file:
        begins_as_video = file.read(12)[4:8] == b"ftyp"
    if begins_as_video or "ended prematurely" in log or "corrupt" in log:
        return UnreadableFileError(f"{name} is cut short or damaged ({reason}).")
    return UnreadableFileError(f"{name} isn't a video that can be read ({reason}).")
