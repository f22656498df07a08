"""Downloads a published checkpoint: resumed where it was cut, checked to the last byte, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from t2v_core.errors import DownloadError, OutputError
from t2v_core.models.downloadable import Downloadable
from t2v_core.models.half_file import half_of, opened_alone, publish, taken
from t2v_core.models.hub import ConnectionLostError, RemoteFile, endpoint, list_files, read_blocks
from t2v_core.run import Notice, Progress, Run, Stage

PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds to wait before each new try; they begin anew once something has come."""

_REPORT_EVERY = 0.1
_FILE_BLOCK = 2**20


def download(checkpoint: Downloadable, folder: Path, *, run: Run) -> Path:
    """Download a checkpoint's files into its folder in `folder`; those that are there and whole stay as they are.

    The run is told the bytes of the whole checkpoint. After a stop or an error the same call goes on where it was.

    Args:
        checkpoint: a row of `downloadable.DOWNLOADS`.
        folder: a folder of models, such as models/ModelScope; made if it's missing.
        run: hears the progress and can stop it.

    Returns:
        the model's folder.

    Raises:
        DownloadError: the hub can't be reached, refuses, or sends something else than it announced.
        OutputError: the disk is full or not writable, or another file is in the way.
        Cancelled: the user stopped it.
    """
    run.raise_if_stopped()
    target = folder / checkpoint.name
    files = {target / file.name: file for file in choose(checkpoint, list_files(checkpoint.repository))}
    _check_room(files, target)
    size = sum(file.size for file in files.values())
    licence = f"Licence: {checkpoint.known.licence}."
    source = f"{endpoint()}/{checkpoint.repository}"
    run.report(Notice(f"{source}: {len(files)} files, {size / 1e9:.2f} GB, into {target}. {licence}"))
    meter = _Meter(run, size)
    for path, file in files.items():
        if os.path.lexists(path):
            _check_whole(path, file, meter=meter)
        else:
            _fetch(file, path, meter=meter)
    return target


def choose(checkpoint: Downloadable, published: Mapping[str, RemoteFile]) -> list[RemoteFile]:
    """The file for each piece of a checkpoint, of those that the hub has.

    Raises:
        DownloadError: a file is missing on the hub.
    """
    chosen = []
    for piece in checkpoint.pieces:
        file = next((published[name] for name in piece.names if name in published), None)
        if file is not None:
            chosen.append(file)
        elif not piece.optional:
            raise DownloadError(
                f"{checkpoint.repository} doesn't have {' or '.join(piece.names)} any more.",
                remedy="Look at its page in a browser, and tell us; another model can be downloaded meanwhile.",
            )
    return chosen


class _Meter:
    """Counts the bytes that are done, tells the run now and then, and ends everything when the user wants that."""

    def __init__(self, run: Run, total: int) -> None:
        self._run, self._total, self._done = run, total, 0
        self._told = -_REPORT_EVERY
        self.add(0)

    def add(self, count: int) -> None:
        """So many bytes more are done; fewer, if they have to be fetched again."""
        self._run.raise_if_stopped()
        self._done += count
        if time.monotonic() - self._told >= _REPORT_EVERY or self._done >= self._total:
            self._told = time.monotonic()
            self._run.report(Progress(Stage.DOWNLOADING, self._done, self._total, "B"))

    def wait(self, seconds: float) -> None:
        """Let time pass, but not for someone who wants to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._run.raise_if_stopped()
            time.sleep(min(left, 0.1))


def _check_room(files: Mapping[Path, RemoteFile], target: Path) -> None:
    """Raise `OutputError` if a file in the way is another one, or what is still to come doesn't fit on the disk."""
    needed = 0
    for path, file in files.items():
        if not os.path.lexists(path):
            needed += file.size - min(_size(half_of(path, file.digest)), file.size)
        elif _size(path) != file.size:
            raise taken(path)
    place = next((parent for parent in (target, *target.parents) if parent.is_dir()), None)
    free = shutil.disk_usage(place).free if place else 0
    if place and free < needed:
        raise OutputError(
            f"{needed / 1e9:.2f} GB are still to be downloaded, but the disk of {target} has {free / 1e9:.2f} GB free.",
            remedy=f"Free {(needed - free) / 1e9:.2f} GB, or choose a models folder on another disk.",
        )


def _check_whole(path: Path, file: RemoteFile, *, meter: _Meter) -> None:
    digest = file.new_hash()
    try:
        with path.open("rb") as content:
            _feed(content, digest, meter=meter)
    except OSError as error:
        raise OutputError(f"{path} can't be read: {error.strerror or error}.", remedy="Delete it.") from error
    if digest.hexdigest() != file.digest:
        raise taken(path)


def _fetch(file: RemoteFile, path: Path, *, meter: _Meter) -> None:
    half = half_of(path, file.digest)
    with opened_alone(half) as content:
        digest = _receive(file, content, meter=meter)
        if digest != file.digest:
            content.truncate(0)
            with contextlib.suppress(OSError):  # on Windows it's open
                half.unlink()
            raise _altered(file)
        content.flush()
        os.fsync(content.fileno())  # or a power cut could leave the name without the content
        if os.name != "nt":  # there an open file can't be renamed, and here a closed one isn't ours any more
            publish(half, path)
    if os.name == "nt":
        publish(half, path)


def _receive(file: RemoteFile, content: BinaryIO, *, meter: _Meter) -> str:
    """Fill the file up to its size, in as many connections as that takes; returns its hash, or "" if too much came."""
    digest, tries = file.new_hash(), 0
    if os.fstat(content.fileno()).st_size > file.size:
        content.truncate(0)
    _feed(content, digest, meter=meter)
    while (before := content.tell()) < file.size:
        try:
            with contextlib.closing(read_blocks(file, start=before)) as blocks:
                for place, block in blocks:
                    if place == 0 and content.tell():  # a server that can't begin elsewhere
                        meter.add(-content.tell())
                        digest = file.new_hash()
                        content.seek(0)
                        content.truncate()
                    if place != content.tell() or place + len(block) > file.size:
                        return ""
                    content.write(block)
                    digest.update(block)
                    meter.add(len(block))
        except ConnectionLostError:
            tries = 0 if content.tell() > before else tries
            if tries == len(PAUSES):
                raise
            meter.wait(PAUSES[tries])
            tries += 1
    return digest.hexdigest()


def _feed(content: BinaryIO, digest: Any, *, meter: _Meter) -> None:
    while block := content.read(_FILE_BLOCK):
        digest.update(block)
        meter.add(len(block))


def _altered(file: RemoteFile) -> DownloadError:
    return DownloadError(
        f"What came as {file.name} isn't what the hub announced, so it wasn't kept.",
        remedy="Start it again. If that doesn't help, a proxy or mirror alters files: unset HF_ENDPOINT, or download "
        "the file in a browser.",
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
