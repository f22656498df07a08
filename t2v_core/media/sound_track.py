"""The sound of a finished clip: what somebody gives, as long as the clip is."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from t2v_core.errors import UnreadableFileError
from t2v_core.media.ffmpeg import SOUND_FORMATS, FfmpegError, reading
from t2v_core.media.problems import output_error
from t2v_core.media.sound import sound_of
from t2v_core.media.temporary import temporary_file
from t2v_core.media.wav import CHANNELS, RATE, SAMPLE

FITS = ("cut", "loop")
"""How a sound that is too short is made as long as the clip: silence after it, or from its beginning again."""


@contextlib.contextmanager
def sound_track(
    path: Path, folder: Path, *, seconds: Fraction, start: float = 0.0, end: float = 0.0, fit: str = "cut"
) -> Iterator[Path | None]:
    """A file of bare samples, as `t2v_core.media.wav` says, of exactly so many seconds; None if there is no sound.

    `start` and `end` are where to begin and to stop in the sound that is given, in seconds; 0 is its own end. The file
    lies in the file system of `folder`, and is gone when the block is left.

    Raises:
        UnreadableFileError: no such file, or neither a video nor a sound.
        OutputError: the disk is full, or the folder can't be written to.
    """
    limit = None if fit == "loop" else float(seconds)
    if end > start:
        limit = min(end - start, limit) if limit is not None else end - start
    size = round(seconds * RATE) * SAMPLE
    with sound_of(path, folder, start=start, seconds=limit) as sound:
        if sound is None:
            yield None
            return
        before = ("-stream_loop", "-1") if fit == "loop" else ()
        samples = ("-map", "0:a:0", "-t", f"{float(seconds) + 1:.6f}", "-ar", str(RATE), "-ac", str(CHANNELS))
        with temporary_file(folder, ".pcm") as track:
            try:
                with (
                    reading(sound, *samples, "-f", "s16le", "pipe:1", before=before, formats=SOUND_FORMATS) as output,
                    track.open("wb") as file,
                ):
                    shutil.copyfileobj(output, file, 2**20)
                    file.truncate(size)  # shorter or longer: what is missing is silence
            except FfmpegError as error:
                raise UnreadableFileError(f"The sound of {path.name} can't be read ({error}).") from error
            except OSError as error:
                raise output_error(error, folder) from error
            yield track
