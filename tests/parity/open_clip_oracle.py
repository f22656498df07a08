"""OpenCLIP's own text transformer and tokenizer, as the benchmarks load them: without the rest of the package."""

from __future__ import annotations

from types import ModuleType

import pytest

from benchmarks.compare.modelscope_code import open_clip_module


def load(name: str) -> ModuleType:
    """One of the package's modules, "transformer" or "tokenizer"; skips where the package is missing."""
    try:
        return open_clip_module(name)
    except ImportError:
        pytest.skip("open_clip_torch isn't installed")
