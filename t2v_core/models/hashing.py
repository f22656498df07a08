"""A model's identity: the first ten digits of its UNet's SHA-256, as the WebUI names checkpoints."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from t2v_core.models.layouts import ModelFolder
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.weights_file import files_of
from t2v_core.models.whole import opened

logger = logging.getLogger(__name__)

DIGITS = 10
_BLOCK = 4 * 2**20


def _ignore(done: int, total: int) -> None:
    pass


def model_hash(
    model: ModelFolder, *, cache_file: Path | None = None, progress: Callable[[int, int], None] = _ignore
) -> str:
    """The model's hash; one of a set of shards is taken over all of them in the order of their names.

    Args:
        model: where its UNet lies.
        cache_file: a JSON file that remembers hashes by path, size and time; by default in the user's cache folder.
        progress: told the bytes done and in all, when the files have to be read.

    Raises:
        FileError: when a file is missing or can't be read.
    """
    return hash_of(files_of(model.files[Part.UNET]), cache_file=cache_file, progress=progress)


def hash_of(
    files: Sequence[Path], *, cache_file: Path | None = None, progress: Callable[[int, int], None] = _ignore
) -> str:
    """`model_hash` of any files."""
    cache_file = cache_file or user_cache_folder() / "hashes.json"
    key = "|".join(map(_state, files))
    hashes = _read(cache_file)
    if key not in hashes:
        digest, done, total = hashlib.sha256(), 0, sum(path.stat().st_size for path in files)
        for path in files:
            with opened(path) as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
                    done += len(block)
                    progress(done, total)
        hashes = {**_read(cache_file), key: digest.hexdigest()}
        _write(cache_file, hashes)
    return hashes[key][:DIGITS]


def user_cache_folder() -> Path:
    """Where this system's programs keep what they can make again."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "txt2video"


def _state(path: Path) -> str:
    with opened(path):
        state = path.stat()
    return f"{path.resolve()}:{state.st_size}:{state.st_mtime_ns}"


def _read(cache_file: Path) -> dict[str, str]:
    try:
        document = json.loads(cache_file.read_text(encoding="utf-8"))
        return {str(key): str(value) for key, value in document.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _write(cache_file: Path, hashes: dict[str, str]) -> None:
    """Not being able to is no error."""
    try:
        replace_text(cache_file, json.dumps(hashes, indent=1))
    except OSError as error:
        logger.info("the hash isn't remembered: %s", error)


def replace_text(path: Path, text: str) -> None:
    """Write a small file of our own in UTF-8, over a former one: whole or not at all.

    Raises:
        OSError: it can't be written; the former one is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{secrets.token_hex(4)}.partial")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
