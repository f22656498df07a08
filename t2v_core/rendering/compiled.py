"""The UNet's blocks compiled by torch.compile, each kind once, and left as they are wherever that doesn't work.

What is compiled are the parts that see no text, and never a whole network: its 16 transformers and 22 residual blocks
are a dozen kinds, which share their code. The compiler's results are kept in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from t2v_core.models.hashing import user_cache_folder
from t2v_core.models.modelscope.attention import FeedForward, TemporalTransformer
from t2v_core.models.modelscope.blocks import ResidualBlock
from t2v_core.rendering.devices import is_lost, is_out_of_memory, traits_of
from t2v_core.rendering.interruptible import Stopped

logger = logging.getLogger(__name__)

Report = Callable[[str], None]
"""Told a sentence for the user."""

COMPILED = (ResidualBlock, TemporalTransformer, FeedForward)
"""The kinds of blocks; what lies within one of them is compiled with it."""

_BY_TORCH = "torchinductor_"
"""How torch's own choice begins, a folder among the temporary files that the next start may find empty."""

_KINDS_AT_MOST = 1024
"""How many kinds of one block torch may compile: some 15 for each size and number of texts that a process sees.

By default it gives up after eight of them, or 256 of one function, and goes on uncompiled without a word.
"""

_LIMITS = ("recompile_limit", "cache_size_limit", "accumulated_recompile_limit", "accumulated_cache_size_limit")
"""What torch calls it, now and formerly."""


@dataclass(slots=True)
class Fallback:
    """Whether compiling has failed; then all blocks run as they are."""

    report: Report
    has_failed: bool = False

    def fail(self, reason: str) -> None:
        """Say so, once."""
        if not self.has_failed:
            self.report(f"The network couldn't be compiled, and runs as it is: {reason}")
        self.has_failed = True


@contextlib.contextmanager
def compiled(network: nn.Module, *, device: str, wanted: bool, report: Report) -> Iterator[Fallback | None]:
    """Within the block, calls of a network's blocks go to compiled code; gives None where that isn't so from the start.

    The code stays with the blocks from one time to the next.
    """
    reason = "" if not wanted else why_not(network, device=device)
    if reason:
        report(f"The network isn't compiled: {reason}")
    if not wanted or reason:
        yield None
        return
    fallback = Fallback(report)
    blocks = list(_outermost(network))
    with _settings():
        for block in blocks:
            block.forward = functools.partial(_forward, block, fallback)  # type: ignore[method-assign]
        try:
            yield fallback
        finally:
            for block in blocks:
                del block.forward


def why_not(network: nn.Module, *, device: str) -> str:
    """Why a network can't be compiled, as a sentence; "" if it may be tried."""
    traits = traits_of(device)
    if traits.is_cpu:
        return "on a CPU compiled code is slower."
    if not traits.compiles:
        return f"torch has no compiler for {traits.label}."
    # Hooks change weights while a layer runs: widening them, or bringing them from main memory.
    hooked = any(module._forward_hooks for module in network.modules())
    return "its weights are widened or brought to the device layer by layer." if hooked else ""


def _outermost(network: nn.Module) -> Iterator[nn.Module]:
    for child in network.children():
        if isinstance(child, COMPILED):
            yield child
        else:
            yield from _outermost(child)


def _forward(block: nn.Module, fallback: Fallback, *inputs: Any, **options: Any) -> Any:
    eager = functools.partial(type(block).forward, block)
    if fallback.has_failed:
        return eager(*inputs, **options)
    try:
        return _code_of(type(block))(block, *inputs, **options)
    except Exception as error:
        if isinstance(error, Stopped) or is_out_of_memory(error) or is_lost(error):
            raise
        logger.info("compiling %s failed", type(block).__name__, exc_info=True)
        fallback.fail(f"{str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}"[:300])
        return eager(*inputs, **options)


@functools.lru_cache(maxsize=len(COMPILED))
def _code_of(kind: type[nn.Module]) -> Callable[..., Any]:
    """The compiled `forward` of a kind of block, for sizes that are all fixed: the kernels are quicker so."""
    return torch.compile(kind.forward, dynamic=False)


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Where the compiler keeps its results, unless the user has chosen; and how many kinds of a block it takes."""
    chosen = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", tempfile.gettempdir() + f"/{_BY_TORCH}"))
    if chosen.parent == Path(tempfile.gettempdir()) and chosen.name.startswith(_BY_TORCH):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(user_cache_folder() / "compiled")
    os.environ.setdefault("TORCHINDUCTOR_FX_GRAPH_CACHE", "1")
    try:
        from torch._dynamo import config
    except ImportError:  # torch without its compiler says so when it is called
        yield
        return
    with config.patch({name: _KINDS_AT_MOST for name in _LIMITS if hasattr(config, name)}):  # type: ignore[attr-defined]
        yield
