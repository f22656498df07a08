"""Keeps a torchvision that was built for another torch from breaking those who only want it for pictures."""

from __future__ import annotations

import importlib
import sys


def hide_if_broken() -> None:
    """Make torchvision invisible where it can't be imported.

    open_clip_torch installs it; beside a CPU build of torch it fails at import, and transformers and Diffusers fail
    with it.
    """
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError):
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision"] = None  # type: ignore[assignment]
