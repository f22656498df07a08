"""The files that the page shows, each to the visitor whose run made it and to nobody else."""

from __future__ import annotations

import mimetypes
import secrets
import threading
from collections import OrderedDict
from pathlib import Path
from urllib.parse import quote

from t2v_core.frontends.page.http import Answer, Asked, text

CAPACITY = 5000
"""How many files are remembered; the oldest are no longer served, and stay on the disk."""

ROUTE = "file"


class Files:
    """Paths by a key that can't be guessed, each with its owner; a request never names a path."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, tuple[str, Path]] = OrderedDict()
        self._lock = threading.Lock()

    def publish(self, path: Path, *, owner: str) -> str:
        """Serve this file to its owner from now on; its address, relative to the page's."""
        key = secrets.token_urlsafe(12)
        with self._lock:
            self._files[key] = (owner, path)
            while len(self._files) > CAPACITY:
                self._files.popitem(last=False)
        return f"txt2video/{ROUTE}/{key}/{quote(path.name)}"

    def of(self, owner: str) -> tuple[Path, ...]:
        """The files that are served to this owner."""
        with self._lock:
            return tuple(path for who, path in self._files.values() if who == owner)

    async def serve(self, asked: Asked) -> Answer:
        """The file of a key; somebody else's doesn't exist."""
        owner, path = self._files.get(asked.path.partition("/")[0], ("", Path()))
        if owner != asked.visitor or not path.is_file():
            return text("There is nothing here.", status=404)
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return Answer(file=path, kind=kind, headers={"cache-control": "private, max-age=3600"})
