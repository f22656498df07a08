"""What the program needs to know of the place it runs in: folders, device, and when the device is free."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from t2v_core.video import Frames

Upscaler = Callable[[Frames, int, int], Frames]
"""`upscaler(frame, width, height)`: one frame (h, w, 3) uint8 RGB at that size, or at the size that it can make."""


class Host(Protocol):
    """A WebUI, or a plain command line."""

    @property
    def models_folders(self) -> Sequence[Path]:
        """Folders whose subfolders are models, in the order in which they are searched."""
        ...

    @property
    def output_folder(self) -> Path:
        """Where videos go if the user names no folder."""
        ...

    @property
    def input_folders(self) -> Sequence[Path] | None:
        """Folders and files that a request's pictures and videos may lie in or be; None where they may lie anywhere."""
        ...

    @property
    def wildcard_folders(self) -> Sequence[Path]:
        """Folders of text files whose lines are drawn for `__name__` in a prompt, in the order they're searched."""
        ...

    def device(self) -> str:
        """The torch device to run on, such as "cuda", "mps" or "cpu"."""
        ...

    def borrow_device(self) -> AbstractContextManager[None]:
        """Have the device to ourselves; whoever used it before gets it back as it was, whatever happens."""
        ...

    def upscalers(self) -> Mapping[str, Upscaler]:
        """What else than Lanczos makes frames larger here, by the names that people know; none outside a WebUI."""
        ...
