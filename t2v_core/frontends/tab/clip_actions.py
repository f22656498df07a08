"""What the buttons under the player do with the chosen clip; every function raises `Txt2VideoError` with a remedy."""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from PIL import Image

from t2v_core.errors import OutputError
from t2v_core.frontends.tab.follow_ups import film_of, said_by_page
from t2v_core.frontends.tab.gradio_versions import update, upload_folder
from t2v_core.frontends.tab.making import Maker
from t2v_core.frontends.tab.shelf import Clip
from t2v_core.frontends.tab.surroundings import Surroundings
from t2v_core.media.reading import iterate_frames, read_frames

WHICH_FRAME = ("Current frame", "First frame", "Last frame")
MOST_FRAMES = 256
"""How many frames the gallery shows; a browser can't bear thousands."""


class ClipActions:
    """`chosen` is the page's JSON of a clip's key and the number of the frame that it shows; keys are JSON as well."""

    def __init__(self, surroundings: Surroundings, maker: Maker) -> None:
        self._surroundings = surroundings
        self._maker = maker

    def open_folder(self, chosen: str) -> list[Any]:
        """Show the folder of the chosen clip, or the output folder, in the file browser."""
        key = said_by_page(chosen).get("key")
        folder = self._maker.shelf.find(key).path.parent if key else self._surroundings.host.output_folder
        self._surroundings.open_folder(folder)
        return []

    def frames(self, chosen: str) -> list[Any]:
        """The gallery with the frames of the chosen clip; without any, where the page shows some."""
        if said_by_page(chosen).get("frames_shown"):
            return [self.no_frames()]
        frames = itertools.islice(iterate_frames(film_of(self._clip(chosen))), MOST_FRAMES)
        return [update(value=[Image.fromarray(frame) for frame in frames], visible=True)]

    def no_frames(self) -> Any:
        """The gallery, hidden."""
        return update(value=None, visible=False)

    def frame(self, chosen: str, which: str) -> list[Any]:
        """One frame of the chosen clip, for another tab."""
        frames = read_frames(film_of(self._clip(chosen)))
        current = _shown(chosen, len(frames))
        places = (current, 0, len(frames) - 1)
        index = places[WHICH_FRAME.index(which)] if which in WHICH_FRAME else current
        return [Image.fromarray(frames[index])]

    def given(self, chosen: str, *, as_picture: bool) -> Path:
        """The file of the chosen clip, or a new one with the frame that it shows, for a field that takes a path."""
        path = film_of(self._clip(chosen))
        if not as_picture:
            return path
        frames = read_frames(path)
        frame = Image.fromarray(frames[_shown(chosen, len(frames))])
        # Named after what it holds, as gradio names uploads: nobody can guess another's.
        folder = upload_folder() / hashlib.sha256(frame.tobytes()).hexdigest()
        target = folder / "frame.png"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            frame.save(target)
        except OSError as error:
            raise OutputError(f"The frame can't be written to {target}: {error.strerror}.") from error
        return target

    def delete(self, chosen: str, keys: str) -> list[Any]:
        """Remove the chosen clip's files; the player goes on with the others."""
        gone = self._maker.shelf.delete(str(said_by_page(chosen).get("key") or ""))
        clips = [clip for clip in self._clips(keys) if clip.key != gone.key]
        return [self._maker.show(clips), json.dumps([clip.key for clip in clips])]

    def zip(self, chosen: str, keys: str) -> list[Any]:
        """All clips of the last run in one file to download."""
        clips = self._clips(keys)
        if not clips:
            raise OutputError("There are no clips to put into a zip.", remedy="Generate some first.")
        target = Path(tempfile.mkdtemp(prefix="txt2video-")) / "txt2video.zip"
        try:
            with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
                for path in (path for clip in clips for path in clip.paths):
                    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                        archive.write(file, file.relative_to(path.parent))
        except OSError as error:
            raise OutputError(f"The zip can't be written: {error.strerror}.", remedy="Free some disk space.") from error
        return [update(value=str(target), visible=True)]

    def _clip(self, chosen: str) -> Clip:
        return self._maker.shelf.find(str(said_by_page(chosen).get("key") or ""))

    def _clips(self, keys: str) -> list[Clip]:
        try:
            named = json.loads(keys or "[]")
        except ValueError:
            named = []
        return self._maker.shelf.those(map(str, named) if isinstance(named, list) else ())


def _shown(chosen: str, frames: int) -> int:
    """Which of a clip's so many frames the page shows."""
    return min(int(said_by_page(chosen).get("frame") or 0), frames - 1)
