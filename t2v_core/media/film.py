"""Films of every codec through moviepy's streaming writer: BT.709 colors, exact times, and the infotext as comment."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from t2v_core.errors import OutputError, UnreadableFileError
from t2v_core.media import Encoding, checked_chunk
from t2v_core.media.ffmpeg import (
    FfmpegError,
    complaint,
    ending,
    local_file,
    metadata_file,
    reading,
    sheltered_from_ctrl_c,
)
from t2v_core.media.film_codecs import FILMS, Encoder, Film, encoder_for, no_ffmpeg, sound_for
from t2v_core.media.problems import encoder_failed, output_error
from t2v_core.media.reading import iterate_frames, probe
from t2v_core.media.temporary import folder_of, temporary_file
from t2v_core.media.wav import RATE, SAMPLE, write_wav
from t2v_core.video import Frames

# moviepy hands on two decimals of a rate, so the filters below set the times. Frames come in at so high a rate that
# their own duration rounds to none, or the last one would be repeated to fill it.
_HASTE = 100_000

_NEARLY_FULL = 2**18  # bytes

_FRAME_OF_SOUND = 0.03  # seconds; what encoders of sound make longer is no more than that

# moviepy's writer raises OSError when the encoder has died, and TypeError while making its text in some versions.
_ENCODER_DIED = (OSError, TypeError, ValueError)


def write(target: Path, chunks: Iterable[Frames], encoding: Encoding, *, variant: str = "h264") -> int:
    """Write a film of the kind `variant` of the table FILMS; see `t2v_core.media.Write`.

    H.264 and H.265 with 4:2:0 have color for squares of 2 by 2 pixels, and an odd width or height is refused: a row of
    pixels that nobody generated, or one that is missing, would be a change that nobody asked for.

    Raises:
        OutputError: a size that the codec can't have, no such encoder, a dead one, a full disk.
        ValueError: a chunk isn't of the size that was said.
    """
    film, frames, folder = FILMS[variant], 0, folder_of(target)
    try:
        encoder = encoder_for(film, encoding)
        arguments = _parameters(encoding, film, encoder)
    except FfmpegError as error:
        raise no_ffmpeg(error) from error
    with tempfile.TemporaryFile() as log, _second_input(folder, encoding) as second:
        with _encoder(target, second, encoding, log, encoder=encoder, arguments=arguments) as (writer, process):
            for chunk in chunks:
                for frame in checked_chunk(chunk, encoding):
                    try:
                        writer.write_frame(frame)
                    except _ENCODER_DIED as error:
                        raise encoder_failed(folder, complaint(log)) from error
                    frames += 1
            if not frames:
                raise OutputError("There are no frames to write.")
            try:
                writer.close()
            except _ENCODER_DIED as error:
                raise encoder_failed(folder, complaint(log)) from error
        reason = complaint(log)
    if process.returncode != 0 or not _is_whole(target, folder, frames=frames):
        raise encoder_failed(folder, reason or _suspicion(folder))
    if encoding.sound and frames / encoding.rate + _FRAME_OF_SOUND < encoding.sound.stat().st_size / (RATE * SAMPLE):
        _trim(target, film, seconds=float(frames / encoding.rate))
    return frames


def _is_whole(target: Path, folder: Path, *, frames: int) -> bool:
    """Whether all frames are in the file: some versions of ffmpeg end well although the disk was full."""
    try:
        if _suspicion(folder):  # then the last frames may be there by their length alone
            return sum(1 for _ in iterate_frames(target)) == frames
        return probe(target).frames == frames
    except UnreadableFileError:
        return False


def _suspicion(folder: Path) -> str:
    """What is wrong with the disk, in the words of an encoder; nothing while there is room."""
    with contextlib.suppress(OSError):
        if shutil.disk_usage(folder).free < _NEARLY_FULL:
            return "No space left on device"
    return ""


def _trim(target: Path, film: Film, *, seconds: float) -> None:
    """Cut the sound of a clip that was stopped early, which the encoder had whole."""
    folder = folder_of(target)
    with temporary_file(folder, target.suffix) as shorter:
        copied = ("-map", "0", "-c", "copy", "-map_metadata", "0", "-t", f"{seconds:.6f}", *film.muxer)
        try:
            with reading(target, *copied, "-f", film.container, "-y", local_file(shorter)) as output:
                output.read()
            shutil.copyfile(shorter, target)
        except FfmpegError as error:
            raise encoder_failed(folder, str(error)) from error
        except OSError as error:
            raise output_error(error, folder) from error


@contextlib.contextmanager
def _second_input(folder: Path, encoding: Encoding) -> Iterator[Path]:
    """The infotext in a file for ffmpeg, with the sound if there is some: a command line is too short for prompts."""
    with temporary_file(folder, ".wav" if encoding.sound else ".ffmetadata") as path:
        try:
            if encoding.sound:
                write_wav(path, encoding.sound, comment=encoding.infotext)
            else:
                path.write_bytes(metadata_file(encoding.infotext))
        except OSError as error:
            raise output_error(error, folder) from error
        yield path


@contextlib.contextmanager
def _encoder(
    target: Path, second: Path, encoding: Encoding, log: IO[bytes], *, encoder: Encoder, arguments: Sequence[str]
) -> Iterator[tuple[Any, subprocess.Popen[Any]]]:
    """moviepy's streaming writer and its process, which has ended when the block is left."""
    try:
        # The import looks for ffmpeg, and takes a while: not before the first video is written.
        from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter

        with sheltered_from_ctrl_c():
            writer = FFMPEG_VideoWriter(
                local_file(target),
                (encoding.width, encoding.height),
                _HASTE,
                codec=encoder.name,
                preset=encoder.presets.get(encoding.preset, encoding.preset),
                audiofile=local_file(second),  # which makes it the second input
                logfile=log,
                ffmpeg_params=list(arguments),
            )
    except (OSError, RuntimeError, ImportError) as error:
        raise no_ffmpeg(error) from error
    process: subprocess.Popen[Any] = writer.proc  # type: ignore[assignment]  # closing forgets it
    with ending(process):
        yield writer, process


def _parameters(encoding: Encoding, film: Film, encoder: Encoder) -> list[str]:
    rate = f"{encoding.rate.numerator}/{encoding.rate.denominator}"
    tick = f"{encoding.rate.denominator}/{encoding.rate.numerator}"
    filters = [
        # The conversion itself, then the tags: each without the other shows wrong colors.
        "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact",
        f"format={encoder.pixels}",
        "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709",
        f"settb={tick}",
        "setpts=N",
    ]
    tags = ["-color_range", "tv", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
    return [
        *("-hide_banner", "-loglevel", "error", "-nostats"),
        *("-map", "0:v", "-map_metadata", "1"),
        *(("-map", "1:a", *sound_for(film)) if encoding.sound else ()),
        *("-vf", ",".join(filters), "-r", rate),
        *encoder.quality(encoding.crf),
        *encoder.options(encoding.preset),
        *tags,
        *film.muxer,
        *("-f", film.container),
    ]
