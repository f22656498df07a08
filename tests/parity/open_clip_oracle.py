"""OpenCLIP's own text transformer and tokenizer, loaded without the rest of the package.

The package imports torchvision and timm for its vision half, which fails where torchvision was built for another torch.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

_PACKAGE = "open_clip_alone"


@functools.cache
def load(name: str) -> ModuleType:
    """One of the package's modules, "transformer" or "tokenizer"; skips where the package is missing."""
    package = importlib.util.find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        pytest.skip("open_clip_torch isn't installed")
    with _stand_ins(list(package.submodule_search_locations)):
        return importlib.import_module(f"{_PACKAGE}.{name}")


@contextmanager
def _stand_ins(folders: list[str]) -> Iterator[None]:
    """A package that has the real one's files, and of torchvision the one class that they name but don't use here."""
    empty = {name: ModuleType(name) for name in (_PACKAGE, "torchvision", "torchvision.ops", "torchvision.ops.misc")}
    empty[_PACKAGE].__path__ = folders
    empty["torchvision.ops.misc"].FrozenBatchNorm2d = type("FrozenBatchNorm2d", (), {})  # type: ignore[attr-defined]
    before = dict(sys.modules)
    sys.modules.update(empty)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name in empty or name.startswith(f"{_PACKAGE}.")]:
            del sys.modules[name]
        sys.modules.update({name: before[name] for name in empty if name in before})
