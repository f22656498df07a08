"""The clips that pages of this server may ask for: a page names a clip by its key, never by a path."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from t2v_core.errors import UnreadableFileError
from t2v_core.infotext import parse_infotext
from t2v_core.media import Shown, shown_as
from t2v_core.media.output import text_beside

CAPACITY = 2000
"""How many clips are remembered; the oldest are forgotten, their files stay."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A saved clip as the page knows it; `poster` is a small picture of it as a data URL.

    `also` are its files in other formats. Each is a file, or a folder of pictures.
    """

    key: str
    path: Path
    infotext: str
    partial: bool
    poster: str
    also: tuple[Path, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files of the clip that are there."""
        return tuple(path for path in (self.path, *self.also) if path.exists())

    @property
    def is_sheet(self) -> bool:
        """Whether it's a grid, or a sheet of drafts."""
        values = parse_infotext(self.infotext).values
        return bool(values.get("over") or values.get("drafts"))

    @property
    def shown(self) -> Path | None:
        """The file that a page can show: a film before a picture that moves; None if there is neither."""
        paths = [path for kind in (Shown.VIDEO, Shown.PICTURE) for path in self.paths if shown_as(path) is kind]
        return paths[0] if paths else None


class Shelf:
    """Clips by key; may be used from any thread.

    `visitor` names who asks: nobody gets another's clip, also with its key.
    """

    def __init__(self, visitor: Callable[[], str] = str) -> None:
        self._visitor = visitor
        self._clips: OrderedDict[tuple[str, str], Clip] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, path: Path, *, infotext: str, partial: bool, poster: str = "", also: tuple[Path, ...] = ()) -> Clip:
        """Remember a clip under a key that can't be guessed."""
        clip = Clip(secrets.token_urlsafe(9), path, infotext, partial, poster, also)
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
        if not clip.paths:
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
        return [clip for clip in found if clip is not None and clip.paths]

    def delete(self, key: str) -> Clip:
        """Remove a clip's files, and the text beside it, from the disk.

        Raises:
            UnreadableFileError: as `find`, or a file can't be removed.
        """
        clip = self.find(key)
        try:
            for path in clip.paths:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            text_beside(clip.path).unlink(missing_ok=True)
        except OSError as error:
            raise UnreadableFileError(f"{clip.path.name} can't be deleted: {error.strerror}.") from error
        with self._lock:
            self._clips.pop((self._visitor(), key), None)
        return clip
