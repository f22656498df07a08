"""The sound of a video or of a sound file, as a file that an encoder can take."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from t2v_core.errors import UnreadableFileError
from t2v_core.media.ffmpeg import SOUND_FORMATS, FfmpegError, reading
from t2v_core.media.problems import output_error, shown
from t2v_core.media.reading import readable, unreadable
from t2v_core.media.temporary import temporary_file


@contextlib.contextmanager
def sound_of(path: Path, folder: Path, *, start: float = 0.0, seconds: float | None = None) -> Iterator[Path | None]:
    """The first sound track from `start` on, at most `seconds` of it; None if there is none, or none from there on.

    It lies, uncompressed in a Matroska file, in a temporary file on the disk of `folder` until the block is left.

    Raises:
        UnreadableFileError: no such file, or nothing with sound or pictures in it.
        OutputError: the disk is full, or the folder can't be written to.
    """
    readable(path)
    before = ("-ss", f"{start:.6f}") if start else ()
    length = () if seconds is None else ("-t", f"{seconds:.6f}")
    arguments = ("-map", "0:a:0", "-vn", *length, "-c:a", "pcm_s16le", "-f", "matroska", "pipe:1")
    with temporary_file(folder, ".mka") as sound:
        try:
            with reading(path, *arguments, before=before, formats=SOUND_FORMATS) as output, sound.open("wb") as file:
                shutil.copyfileobj(output, file, 2**20)
        except FfmpegError as error:
            if "matches no streams" not in str(error):
                raise _unreadable(path, error) from error
            size = 0
        except OSError as error:
            raise output_error(error, folder) from error
        else:
            size = sound.stat().st_size
        yield sound if size and _holds_sound(sound) else None


def has_sound(path: Path) -> bool:
    """Whether there is any sound in it.

    Raises:
        UnreadableFileError: as `sound_of`.
    """
    return _has_packets(readable(path))


def _holds_sound(made: Path) -> bool:
    """Whether a file that ffmpeg has made for us is more than a head."""
    with contextlib.suppress(UnreadableFileError):
        return _has_packets(made)
    return False


def _has_packets(path: Path) -> bool:
    try:
        with reading(
            path, "-map", "0:a:0", "-vn", "-t", "1", "-c", "copy", "-f", "framecrc", "pipe:1", formats=SOUND_FORMATS
        ) as output:
            return any(not line.startswith(b"#") for line in output.read().splitlines())
    except FfmpegError as error:
        if "matches no streams" in str(error):
            return False
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: FfmpegError) -> UnreadableFileError:
    told = unreadable(path, error)
    problem = told.problem.replace("isn't a video that can be read", "is neither a video nor a sound that can be read")
    return UnreadableFileError(problem or f"{shown(path)} can't be read.", remedy=told.remedy)
