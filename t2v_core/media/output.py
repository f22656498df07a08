"""Saving a video into a folder: what can go wrong is checked before, and only whole files get a name."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from t2v_core.errors import OutputError
from t2v_core.media import Encoding, Writer
from t2v_core.media.problems import ANOTHER_FOLDER, output_error, shown
from t2v_core.media.temporary import publish, remove_abandoned, temporary_file
from t2v_core.video import Frames


def estimated_bytes(*, width: int, height: int, frames: int) -> int:
    """What a clip takes on the disk at most, in practice: noise at a low CRF comes near raw yuv420p, 1.5 B a pixel."""
    return width * height * frames * 3 // 2 + 65536


def check_output_folder(folder: Path, expected_bytes: int = 0) -> None:
    """Make the folder if there is none, and see that a file can be written in it and the disk has the room.

    Raises:
        OutputError: it can't be made, is a file, may not be written to, or the disk is too full.
    """
    _make(folder)
    with temporary_file(folder, ".check"):
        free = shutil.disk_usage(folder).free
    if free < expected_bytes:
        needed = f"{_megabytes(free)} free, and the videos may need {_megabytes(expected_bytes)}"
        raise OutputError(f"The disk of {shown(folder)} has {needed}.", remedy=f"Free some space. {ANOTHER_FOLDER}")


def save(chunks: Iterable[Frames], folder: Path, names: Iterable[str], *, writer: Writer, encoding: Encoding) -> Path:
    """Write the frames, (f, h, w, 3) uint8 RGB in chunks as they come, under the first of `names` that is free.

    To keep what there is, let the chunks end early. An exception out of `chunks` passes through unchanged, and nothing
    is left of the file. What killed processes left in the folder is removed.

    Raises:
        OutputError: the folder, the disk, the encoder, no frames, or every name is taken.
    """
    _make(folder)
    remove_abandoned(folder)
    with temporary_file(folder, writer.suffix) as temporary:
        writer.load()(temporary, chunks, encoding)
        return publish(temporary, names)


def save_text(text: str, path: Path) -> None:
    """Write a text file, whole or not at all; a file of that name is left as it is.

    Raises:
        OutputError: it can't be written.
    """
    with temporary_file(path.parent, path.suffix) as temporary:
        try:
            temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            raise output_error(error, path.parent) from error
        if not path.exists():
            publish(temporary, [path.name])


def save_frames(frames: Frames, folder: Path) -> None:
    """Write each frame of (f, h, w, 3) as PNG into a new folder, which appears when all of them are in it.

    Raises:
        OutputError: the folder is there already, or can't be written.
    """
    from PIL import Image

    _make(folder.parent)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".txt2video-frames-") as temporary:
            whole = Path(temporary) / folder.name
            whole.mkdir()
            for index, frame in enumerate(frames):
                Image.fromarray(frame).save(whole / f"{index:05d}.png")
            whole.rename(folder)
    except OSError as error:
        raise output_error(error, folder.parent) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, folder) from error


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
