"""mp4: H.264 in yuv420p with BT.709 colours, its index first (faststart), and the infotext as its comment."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from t2v_core.errors import OutputError, UnreadableFileError
from t2v_core.media import Encoding, checked_chunk
from t2v_core.media.ffmpeg import INSTALL_REMEDY, complaint, ending, local_file, metadata_file, sheltered_from_ctrl_c
from t2v_core.media.problems import encoder_failed, output_error
from t2v_core.media.reading import probe
from t2v_core.media.temporary import folder_of, temporary_file
from t2v_core.video import Frames

# moviepy hands on two decimals of a rate, so the filters below set the times. Frames come in at so high a rate that
# their own duration rounds to none, or the last one would be repeated to fill it.
_HASTE = 100_000

# moviepy's writer raises OSError when the encoder has died, and TypeError while making its text in some versions.
_ENCODER_DIED = (OSError, TypeError, ValueError)


def write(target: Path, chunks: Iterable[Frames], encoding: Encoding) -> int:
    """Write an mp4; see `t2v_core.media.Write`.

    yuv420p stores colour for squares of 2 by 2 pixels. An odd width or height is refused: a row of pixels that nobody
    generated, or one that is missing, would be a change that nobody asked for.

    Raises:
        OutputError: an odd size, a dead encoder, a full disk.
        ValueError: a chunk isn't of the size that was said.
    """
    if encoding.width % 2 or encoding.height % 2:
        size = f"{encoding.width}x{encoding.height}"
        raise OutputError(f"An mp4 can't have {size} pixels.", remedy="Choose an even width and height.")
    frames, folder = 0, folder_of(target)
    with tempfile.TemporaryFile() as log, _metadata(folder, encoding) as metadata:
        with _encoder(target, metadata, encoding, log) as (writer, process):
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
    # Some versions of ffmpeg end well although the disk was full, so its word isn't enough.
    try:
        whole = process.returncode == 0 and probe(target).frames == frames
    except UnreadableFileError:
        whole = False
    if not whole:
        raise encoder_failed(folder, reason)
    return frames


@contextlib.contextmanager
def _metadata(folder: Path, encoding: Encoding) -> Iterator[Path]:
    """The infotext in a file for ffmpeg: a command line isn't long enough for every prompt."""
    with temporary_file(folder, ".ffmetadata") as path:
        try:
            path.write_bytes(metadata_file(encoding.infotext))
        except OSError as error:
            raise output_error(error, folder) from error
        yield path


@contextlib.contextmanager
def _encoder(
    target: Path, metadata: Path, encoding: Encoding, log: IO[bytes]
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
                codec="libx264",
                preset=encoding.preset,
                audiofile=local_file(metadata),  # which makes it the second input
                logfile=log,
                ffmpeg_params=_parameters(encoding),
            )
    except (OSError, RuntimeError, ImportError) as error:
        raise OutputError(
            f"No video can be written: ffmpeg can't be started ({error}).", remedy=INSTALL_REMEDY
        ) from error
    process: subprocess.Popen[Any] = writer.proc  # type: ignore[assignment]  # closing forgets it
    with ending(process):
        yield writer, process


def _parameters(encoding: Encoding) -> list[str]:
    rate = f"{encoding.rate.numerator}/{encoding.rate.denominator}"
    tick = f"{encoding.rate.denominator}/{encoding.rate.numerator}"
    filters = [
        # The conversion itself, then the tags: each without the other shows wrong colours.
        "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact",
        "format=yuv420p",
        "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709",
        f"settb={tick}",
        "setpts=N",
    ]
    tags = ["-color_range", "tv", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
    return [
        *("-hide_banner", "-loglevel", "error", "-nostats"),
        *("-map", "0:v", "-map_metadata", "1"),
        *("-vf", ",".join(filters), "-r", rate),
        *("-crf", str(encoding.crf), *tags),
        *("-movflags", "+faststart+write_colr", "-f", "mp4"),
    ]
