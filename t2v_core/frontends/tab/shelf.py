"""The clips that pages of this server may ask for: a page names a clip by its key, never by a path."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from t2v_core.errors import UnreadableFileError

CAPACITY = 2000
"""How many clips are remembered; the oldest are forgotten, their files stay."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A saved clip as the page knows it; `poster` is a small picture of it as a data URL."""

    key: str
    path: Path
    infotext: str
    partial: bool
    poster: str


class Shelf:
    """Clips by key; may be used from any thread.

    `visitor` names who asks: nobody gets another's clip, also with its key.
    """

    def __init__(self, visitor: Callable[[], str] = str) -> None:
        self._visitor = visitor
        self._clips: OrderedDict[tuple[str, str], Clip] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, path: Path, *, infotext: str, partial: bool, poster: str = "") -> Clip:
        """Remember a clip under a key that can't be guessed."""
        clip = Clip(secrets.token_urlsafe(9), path, infotext, partial, poster)
        with self._lock:
            self._clips[self._visitor(), clip.key] = clip
            while len(self._clips) > CAPACITY:
                self._clips.popitem(last=False)
        return clip

    def find(self, key: str) -> Clip:
        """The clip of a key.

        Raises:
            UnreadableFileError: nobody was given this key, or the file is gone.
        """
        with self._lock:
            clip = self._clips.get((self._visitor(), key))
        if clip is None:
            raise UnreadableFileError("Choose a clip first.", remedy="Generate one, or click one of the results.")
        if not clip.path.is_file():
            raise UnreadableFileError(f"{clip.path.name} is no longer there.")
        return clip

    def newest_recipe(self) -> str:
        """The infotext of the visitor's newest clip; empty if there is none."""
        with self._lock:
            return next(
                (clip.infotext for (who, _), clip in reversed(self._clips.items()) if who == self._visitor()), ""
            )

    def those(self, keys: Iterable[str]) -> list[Clip]:
        """The clips of these keys that are still there, in this order."""
        with self._lock:
            found = [self._clips.get((self._visitor(), key)) for key in keys]
        return [clip for clip in found if clip is not None and clip.path.is_file()]

    def delete(self, key: str) -> Clip:
        """Remove a clip's file, and the text beside it, from the disk.

        Raises:
            UnreadableFileError: as `find`, or the file can't be removed.
        """
        clip = self.find(key)
        try:
            clip.path.unlink()
            clip.path.with_suffix(".txt").unlink(missing_ok=True)
        except OSError as error:
            raise UnreadableFileError(f"{clip.path.name} can't be deleted: {error.strerror}.") from error
        with self._lock:
            self._clips.pop((self._visitor(), key), None)
        return clip
