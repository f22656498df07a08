"""The ffmpeg that imageio-ffmpeg brings: running it on one file, its metadata format, and what its complaints mean."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

INSTALL_REMEDY = "Install it with: pip install imageio-ffmpeg"
NO_FFMPEG = "there is no ffmpeg"

# Containers of videos. Playlists and scripts (hls, concat, dash), and numbered pictures, which make ffmpeg open other
# files, are left out.
_FORMATS = "mov,matroska,avi,gif,apng,mpegts,mpeg,flv,asf,ogg"
# What else people have: tapes, broadcast, old players, and streams without a container.
MORE_FORMATS = f"{_FORMATS},mxf,nut,rm,dv,ivf,yuv4mpegpipe,wtv,mpegvideo,m4v,h264,hevc,obu,bink,roq,smk"
MOST_PIXELS = 100_000_000
"""Of a frame of anybody's video: thrice those of 8K."""
SOUND_FORMATS = f"{MORE_FORMATS},mp3,wav,w64,flac,aac,aiff,ac3,eac3,amr,caf,tta,wv,ape,au"

_PREFIX = re.compile(r"^(\[[^\]]* @ 0x[0-9a-f]+\]\s*)+")
_LINE = re.compile(rb"([^\\\n]*(?:\\.[^\\\n]*)*)(?:\n|\Z)", re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_KEY_AND_VALUE = re.compile(rb"([^\\=]*(?:\\.[^\\=]*)*)=(.*)", re.DOTALL)


class FfmpegError(Exception):
    """ffmpeg ended with an error; the text is what it said, the cause in the first line."""


def executable() -> str:
    """Where ffmpeg lies: imageio-ffmpeg's own, or the one that its environment variable names.

    Raises:
        FfmpegError: there is none.
    """
    import imageio_ffmpeg  # here, for what only checks or writes needs none of it

    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise FfmpegError(NO_FFMPEG) from error


def local_file(path: Path) -> str:
    """A name that ffmpeg takes for a file and nothing else: no option, no protocol."""
    return "file:" + str(path.absolute())


@contextlib.contextmanager
def reading(
    path: Path, *arguments: str, before: Sequence[str] = (), formats: str = "", said: list[str] | None = None
) -> Iterator[IO[bytes]]:
    """ffmpeg's output, to be read to its end, from reading `path` and no other file or address.

    `before` are options of the input. With other `formats` than those that we write, the file may be anybody's: damage
    in it is passed over where ffmpeg can, and giants that would fill the memory are refused. All that ffmpeg tells of
    the file is put into `said`.

    Raises:
        FfmpegError: at the end of the block, if ffmpeg failed, was missing, or met damaged data.
    """
    command = [executable(), "-nostdin", "-hide_banner", "-nostats", "-v", "error" if said is None else "info"]
    command += ["-max_pixels", str(MOST_PIXELS)] if formats else ["-xerror"]
    command += ["-protocol_whitelist", "file", "-format_whitelist", formats or _FORMATS, *before]
    command += ["-i", local_file(path)]
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(  # noqa: S603 - a list, no shell, and the name can't be an option
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                **_apart(),
            )
        except OSError as error:
            raise FfmpegError(f"ffmpeg can't be started: {error.strerror}") from error
        with ending(process):
            assert process.stdout is not None
            yield process.stdout
            process.stdout.close()
            process.wait()
        if said is not None:
            said.append(complaint(log))
        if process.returncode != 0:
            raise FfmpegError(complaint(log) or f"ffmpeg ended with code {process.returncode}")


def _apart() -> dict[str, Any]:
    """So that Ctrl-C on the console is ours to deal with, and no window opens on Windows."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


@contextlib.contextmanager
def sheltered_from_ctrl_c() -> Iterator[None]:
    """Processes started inside the block, by whatever library, never get the console's Ctrl-C.

    Without it an encoder would end at once on the Ctrl-C after which we still want to save what there is. A process
    inherits the set of blocked signals. On Windows, a process without a console window gets none anyway.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def ending(process: subprocess.Popen[Any]) -> Iterator[None]:
    """The process has ended and been waited for when the block is left, killed if it must be."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError, ValueError):
                    pipe.close()
        process.wait()


def complaint(log: IO[bytes]) -> str:
    """Everything in a log of errors, one line each: the first says what was wrong, the rest what followed from it."""
    log.seek(0)
    lines = (
        _PREFIX.sub("", line.strip()).rstrip(".") for line in log.read(65536).decode(errors="replace").splitlines()
    )
    return "\n".join(line for line in lines if line)


def metadata_file(comment: str) -> bytes:
    """A file in the ffmetadata format that holds a comment, exactly.

    Raises:
        ValueError: the comment has a NUL or half a surrogate pair, which no container holds.
    """
    if "\0" in comment:
        raise ValueError("metadata can't hold a NUL character")
    return b";FFMETADATA1\ncomment=" + re.sub(rb"([=;#\\\r\n])", rb"\\\1", comment.encode())


def metadata_in(text: bytes) -> dict[str, str]:
    """The file-wide entries of an ffmetadata text, keys in lower case."""
    found = {}
    for line in _LINE.finditer(text):
        if line[1].startswith(b"["):
            break
        pair = _KEY_AND_VALUE.fullmatch(line[1])
        if pair and not line[1].startswith((b";", b"#")):
            key, value = (_ESCAPED.sub(rb"\1", part).decode(errors="replace") for part in pair.groups())
            found[key.lower()] = value
    return found
