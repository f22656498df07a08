"""No WebUI around us: a shell, a rented GPU, a test."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from t2v_core.host import Upscaler
from t2v_core.request import problem

MODEL_FOLDERS = ("ModelScope", "text2video")
"""Where models lie inside a `models` folder, in the order in which they are searched."""

OUTPUT_FOLDER = Path("outputs") / "txt2video-videos"
"""Where videos go, with a folder in it for each day, as the WebUI has."""


@dataclass(frozen=True, slots=True)
class StandaloneHost:
    """`models_folder`, `device_name` and `output` override what is found by itself.

    Who can start programs here can read files anyway, so pictures and videos may lie anywhere; a page for others says
    where.
    """

    models_folder: Path | None = None
    device_name: str | None = None
    output: Path | None = None
    input_folders: Sequence[Path] | None = None

    @property
    def models_folders(self) -> Sequence[Path]:
        """The given folder alone, or those of the working directory and of the WebUI that we are installed in."""
        if self.models_folder is not None:
            return (self.models_folder, *(self.models_folder / name for name in MODEL_FOLDERS))
        return tuple(root / "models" / name for root in (Path.cwd(), *_webui()) for name in MODEL_FOLDERS)

    @property
    def output_folder(self) -> Path:
        """The given folder, or one for today, as the WebUI has."""
        return self.output or Path.cwd() / OUTPUT_FOLDER / datetime.date.today().isoformat()

    @property
    def wildcard_folders(self) -> Sequence[Path]:
        """`wildcards` in the working directory, and those of the extensions beside us in a WebUI."""
        beside = (found for root in _webui() for found in sorted((root / "extensions").glob("*/wildcards")))
        return (Path.cwd() / "wildcards", *beside)

    def device(self) -> str:
        """The named device, or the first kind that this machine has."""
        from t2v_core.rendering.devices import best_device

        return _usable(self.device_name) if self.device_name else best_device()

    def upscalers(self) -> Mapping[str, Upscaler]:
        """None but our own."""
        return {}

    @contextlib.contextmanager
    def borrow_device(self) -> Iterator[None]:
        """Nobody else is here."""
        yield


def _webui() -> Sequence[Path]:
    """The folder of the WebUI that we are installed in, if we are."""
    package = Path(__file__).resolve().parents[2]
    return (package.parents[1],) if package.parent.name == "extensions" else ()


def _usable(name: str) -> str:
    """The name of a device that this machine has; raises `RequestError` for any other."""
    import torch

    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise problem("device", f"Device {name!r} can't be used here: {reason}") from error
    return name
