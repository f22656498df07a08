"""Files that aren't whole yet: without a name, or a hidden one, until they are whole; never over another file.

Linux can make files that have no name at all: whatever ends the process, nothing of them is left. Elsewhere, and on
disks that can't, such a file is hidden, named after its process, and removed by whoever saves next.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from t2v_core.errors import OutputError
from t2v_core.media.problems import output_error, shown

_NAME = re.compile(r"\.txt2video-(?P<host>[0-9a-f]{8})-(?P<pid>\d{1,10})-[0-9a-f]{8}\.[\w.]*")
# Whose process we can't ask about (another machine's on a shared disk, a reused number) gets this long, in seconds,
# since the last write to the file.
_ABANDONED_AFTER = 24 * 3600
_PROCESSES = "/proc"
_FOLDER = ".pictures"


@contextlib.contextmanager
def temporary_file(folder: Path, suffix: str) -> Iterator[Path]:
    """A new empty file on the disk of `folder`, gone at the end of the block unless it was published.

    The path can be opened, also by other processes, until the block ends; `folder_of` says which folder it is for.

    Raises:
        OutputError: it can't be made.
    """
    descriptor = _open_nameless(folder)
    if descriptor is not None:
        try:
            yield Path(f"{_PROCESSES}/{os.getpid()}/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return
    with _named_file(folder, suffix) as path:
        yield path


@contextlib.contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """A new empty hidden folder in `folder`, gone with all that is in it at the end of the block unless published.

    Raises:
        OutputError: it can't be made.
    """
    path = folder / f".txt2video-{_host()}-{os.getpid()}-{secrets.token_hex(4)}{_FOLDER}"
    try:
        path.mkdir()
    except OSError as error:
        raise output_error(error, folder) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def folder_of(temporary: Path) -> Path:
    """The folder that a temporary file was made for."""
    return temporary.resolve().parent if _is_nameless(temporary) else temporary.parent


@contextlib.contextmanager
def _named_file(folder: Path, suffix: str) -> Iterator[Path]:
    path = folder / f".txt2video-{_host()}-{os.getpid()}-{secrets.token_hex(4)}{suffix}.partial"
    try:
        with path.open("xb"):
            pass
    except OSError as error:
        raise output_error(error, folder) from error
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files and folders of processes that are no more; what can't be removed is left."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match is None:
                continue
            with contextlib.suppress(OSError):
                if not _abandoned(entry, host=match["host"], pid=int(match["pid"])):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


def publish(temporary: Path, names: Iterable[str]) -> Path:
    """Rename a whole file, or a folder with all that is in it, to the first of the names that is free in its folder.

    Two processes may do this at the same time: neither ever overwrites a file. The file appears under its name at
    once and whole; only on disks without hard links an empty file stands for it between two system calls.

    Raises:
        OutputError: every name is taken, or it can't be renamed at all.
    """
    name, folder = None, folder_of(temporary)
    try:
        if not temporary.is_dir():
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())  # or a power cut could leave the name without the content
        for name in names:
            with contextlib.suppress(FileExistsError):
                _rename(temporary, folder / name)
                return folder / name
    except OSError as error:
        raise output_error(error, folder) from error
    raise OutputError(f"{shown(folder / (name or ''))} is there already.", remedy="Choose another name.")


def _open_nameless(folder: Path) -> int | None:
    """A file without a name, open for reading and writing; None where there can be none."""
    if not hasattr(os, "O_TMPFILE") or not os.path.isdir(_PROCESSES):
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666)
    except OSError:  # some disks; and what is wrong with the folder itself is said when a named file is tried
        return None


def _is_nameless(path: Path) -> bool:
    return path.parts[1:2] == (_PROCESSES.strip("/"),)


def _give_name(nameless: Path, final: Path) -> None:
    """Link a nameless file into its folder; where the system refuses, copy it under a hidden name and rename that."""
    try:
        root = os.open("/", os.O_RDONLY)
        try:
            os.link(nameless, final, src_dir_fd=root)  # only with a folder does Python follow /proc's link
        finally:
            os.close(root)
    except FileExistsError:
        raise
    except OSError:
        with _named_file(final.parent, final.suffix) as copy:
            shutil.copyfile(nameless, copy)
            _rename(copy, final)


def _rename(temporary: Path, final: Path) -> None:
    if _is_nameless(temporary):
        _give_name(temporary, final)
        return
    if os.name == "nt":
        os.rename(temporary, final)  # raises if the name is taken; elsewhere it would overwrite
        return
    if temporary.is_dir():
        final.mkdir()  # an empty folder alone may be renamed over, and so nobody else takes the name
        try:
            os.rename(temporary, final)
        except BaseException:
            final.rmdir()
            raise
        return
    try:
        os.link(temporary, final)
    except FileExistsError:
        raise
    except OSError:  # FAT, and some network disks
        with final.open("xb"):
            pass
        try:
            os.replace(temporary, final)
        except BaseException:
            final.unlink()
            raise
    else:
        os.unlink(temporary)


def _abandoned(entry: os.DirEntry[str], *, host: str, pid: int) -> bool:
    status = entry.stat(follow_symlinks=False)
    is_ours = stat.S_ISREG(status.st_mode) or (stat.S_ISDIR(status.st_mode) and entry.name.endswith(_FOLDER))
    if not is_ours:
        return False
    if host == _host() and _has_ended(pid):
        return True
    return time.time() - status.st_mtime > _ABANDONED_AFTER


def _has_ended(pid: int) -> bool:
    if os.name == "nt":
        return False  # asking with os.kill would end the process there
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False  # another user's
    return False


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
