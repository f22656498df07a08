"""The UNet's transformers over some frames or some places at a time: the same numbers from much less memory.

A spatial transformer sees one frame at a time and a temporal one's block one place, so that neither knows whether the
others are there. Queries, keys, values, scores and the feed-forward's wide middle are made for one slice after another.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from t2v_core.models.modelscope.attention import RememberedText, SpatialTransformer, TemporalTransformer, texts_in

TOKENS_AT_ONCE = 4096
"""Tokens of a slice, at least one frame's or one place's: enough to keep a small GPU busy."""


@contextlib.contextmanager
def sliced(network: nn.Module, *, first_only: bool = False) -> Iterator[None]:
    """Within the block, the network's transformers run in slices.

    With `first_only` each runs its first slice and no more: for who wants to know what memory that takes.
    """
    replaced: list[tuple[Any, Any]] = []
    for module in network.modules():
        if isinstance(module, SpatialTransformer):
            replaced.append((module, functools.partial(_by_frames, module.forward, first_only=first_only)))
        elif isinstance(module, TemporalTransformer):
            for block in module.transformer_blocks:
                replaced.append((block, functools.partial(_by_places, block.forward, first_only=first_only)))
    try:
        for module, forward in replaced:
            module.forward = forward
        yield
    finally:
        for module, _ in replaced:
            vars(module).pop("forward", None)


def _by_frames(
    forward: Callable[..., Tensor], x: Tensor, text: Any, frames: int, *, first_only: bool, **rest: Any
) -> Tensor:
    """A spatial transformer: feature maps ((b f), c, h, w) with the text of one clip, sliced along f."""
    at_once = max(1, TOKENS_AT_ONCE // (x.shape[-2] * x.shape[-1]))
    if x.shape[0] != frames or texts_in(text) > 1 or frames <= at_once:  # several clips have several texts
        return forward(x, text, frames, **rest)
    result = torch.empty_like(x)
    for start in range(0, frames, at_once):
        some = x[start : start + at_once]
        result[start : start + at_once] = forward(some, _of_frames(text, start, at_once), len(some), **rest)
        if first_only:
            break
    return result


def _of_frames(text: Any, start: int, count: int) -> Any:
    """The text of some frames, where each has its own."""
    frames = slice(start, start + count)
    if isinstance(text, RememberedText):
        return text.of_frames(frames)
    return text[:, frames] if text.ndim == 4 else text


def _by_places(forward: Callable[..., Tensor], tokens: Tensor, *rest: Any, first_only: bool, **more: Any) -> Tensor:
    """The block of a temporal transformer: tokens (b, f, p, c), sliced along p."""
    at_once = max(1, TOKENS_AT_ONCE // (tokens.shape[0] * tokens.shape[1]))
    if tokens.shape[2] <= at_once:
        return forward(tokens, *rest, **more)
    result = torch.empty_like(tokens)
    for start in range(0, tokens.shape[2], at_once):
        some = tokens[:, :, start : start + at_once].contiguous()
        result[:, :, start : start + at_once] = forward(some, *rest, **more)
        if first_only:
            break
    return result
