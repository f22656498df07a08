"""Saving a video into a folder: what can go wrong is checked before, and only whole files get a name."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from t2v_core.errors import OutputError
from t2v_core.media import WRITERS, Encoding, Writer
from t2v_core.media.problems import ANOTHER_FOLDER, output_error, shown
from t2v_core.media.stored_frames import in_chunks
from t2v_core.media.temporary import folder_of, publish, remove_abandoned, temporary_file, temporary_folder
from t2v_core.video import Frames, FrameSource

_HEAD = 65536  # bytes of a file: the recipe, the index


def estimated_bytes(*, width: int, height: int, frames: int, formats: Sequence[str] = ("mp4",)) -> int:
    """What a clip takes on the disk at most, in practice, in all these formats: as much as noise does."""
    return sum(
        round(writer.bytes_per_pixel * width * height * min(frames, writer.most_frames or frames))
        + _HEAD * (frames if writer.is_folder else 1)
        for writer in map(WRITERS.__getitem__, formats)
    )


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
    make_ready(folder)
    with temporary_target(folder, writer) as temporary:
        writer.load()(temporary, chunks, encoding)
        return publish(temporary, names)


def make_ready(folder: Path) -> None:
    """Make the folder if there is none, and remove what killed processes left in it."""
    _make(folder)
    remove_abandoned(folder)


def temporary_target(folder: Path, writer: Writer) -> AbstractContextManager[Path]:
    """What a format's writer writes to: a file or a folder that is gone at the end of the block unless published."""
    return temporary_folder(folder) if writer.is_folder else temporary_file(folder, writer.suffix)


def empty(target: Path) -> None:
    """Give back the room that a temporary target takes."""
    if target.is_dir():
        for child in target.iterdir():
            child.unlink()
    else:
        os.truncate(target, 0)


def endings(writers: Sequence[Writer]) -> list[str]:
    """What the names of one clip's files end with, each different: where suffixes are the same, the format's name too.

    A folder among them has its format's name always, unless it's alone.
    """
    found: list[str] = []
    for writer in writers:
        ending = writer.suffix
        if ending in found or (writer.is_folder and len(writers) > 1):
            ending = f"-{writer.name.removeprefix(writer.suffix[1:] + '-')}{writer.suffix}"
        found.append(ending)
    return found


def text_beside(path: Path) -> Path:
    """Where the recipe of a clip's file or folder lies as a text."""
    is_file = any(path.suffix == writer.suffix and writer.suffix for writer in WRITERS.values())
    return path.with_suffix(".txt") if is_file else path.with_name(f"{path.name}.txt")


def publish_together(temporaries: Sequence[Path], stems: Iterable[str], *, endings: Sequence[str]) -> list[Path]:
    """Give the files of one clip the first stem that is free for all of them, each with its own ending.

    Raises:
        OutputError: a file can't be renamed; those before it have their names.
    """
    folder, (first, *others) = folder_of(temporaries[0]), endings
    chosen = ""

    def names() -> Iterator[str]:
        nonlocal chosen
        for stem in stems:
            if not any(os.path.lexists(folder / (stem + ending)) for ending in others):
                chosen = stem
                yield stem + first

    paths = [publish(temporaries[0], names())]
    for temporary, ending in zip(temporaries[1:], others, strict=True):
        more = (f"{chosen}-{number}{ending}" for number in itertools.count(1))  # if somebody was quicker
        paths.append(publish(temporary, itertools.chain([chosen + ending], more)))
    return paths


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


def save_frames(frames: FrameSource, folder: Path) -> None:
    """Write each frame of (f, h, w, 3) as PNG into a new folder, which appears when all of them are in it.

    Raises:
        OutputError: the folder is there already, or can't be written.
    """
    _, height, width, _ = frames.shape
    encoding = Encoding(width=width, height=height, fps=1, preset="fast")
    save(in_chunks(frames), folder.parent, [folder.name], writer=WRITERS["png-sequence"], encoding=encoding)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, folder) from error


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
