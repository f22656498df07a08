"""What pays on large pictures and long clips alone: one self-attention of the full-size network, with and without."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from t2v_core.models.modelscope.attention import Attention, SpatialTransformer, TemporalTransformer
from t2v_core.models.modelscope.frame_windows import attend_in_windows
from t2v_core.models.modelscope.packable import pack
from t2v_core.models.modelscope.token_merging import attend_merged

ROUNDS = 5
CHANNELS = 320
MAPS = {"256×256": (32, 32), "576×320": (40, 72), "1024×576": (72, 128)}
CLIPS = (32, 64, 128)
PLACES = 64
WINDOW = 16
SHARES = (0.5, 0.75)


@dataclass(frozen=True, slots=True)
class OfAttention:
    """Milliseconds of the plain attention (median), and what each shortcut takes of them."""

    plain_ms: float
    ratios: dict[str, float]


@torch.no_grad()
def of_attentions(dtype: torch.dtype) -> dict[str, OfAttention]:
    """One frame of each size, and 64 places of clips of each length."""
    found = {}
    attention = _first_attention(SpatialTransformer(CHANNELS, context_dim=1024, **_SIZES), dtype)
    for name, size in MAPS.items():
        tokens = _tokens(1, size[0] * size[1], dtype)
        found[f"a frame of {name}"] = _compare(
            lambda tokens=tokens: attention(tokens),
            {
                f"{share:.0%} merged": functools.partial(attend_merged, attention, tokens, size=size, share=share)
                for share in SHARES
            },
        )
    attention = _first_attention(TemporalTransformer(CHANNELS, **_SIZES), dtype)
    for frames in CLIPS:
        tokens = _tokens(frames, PLACES, dtype)
        found[f"{frames} frames"] = _compare(
            lambda tokens=tokens: attention(tokens),
            {f"windows of {WINDOW}": functools.partial(_in_windows, attention, tokens)},
        )
    return found


_SIZES = {"heads": CHANNELS // 64, "head_dim": 64, "norm_groups": 32}


def _first_attention(transformer: SpatialTransformer | TemporalTransformer, dtype: torch.dtype) -> Attention:
    transformer = transformer.to(dtype).eval().requires_grad_(False)
    pack(transformer)
    attention = transformer.transformer_blocks[0].attn1
    assert isinstance(attention, Attention)
    return attention


def _tokens(frames: int, places: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(1, frames, places, CHANNELS, generator=torch.Generator().manual_seed(0)).to(dtype)


def _in_windows(attention: Attention, tokens: Tensor) -> Tensor:
    own = attention.core
    attention.core = functools.partial(attend_in_windows, own, window=WINDOW)
    try:
        return attention(tokens)
    finally:
        attention.core = own


def _compare(plain: Callable[[], Tensor], others: dict[str, Callable[[], Tensor]]) -> OfAttention:
    seconds: dict[str, list[float]] = {name: [] for name in ("plain", *others)}
    for index in range(ROUNDS + 1):
        for name, work in {"plain": plain, **others}.items():
            started = time.process_time()
            work()
            if index:  # the first round warms up
                seconds[name].append(time.process_time() - started)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: round(median[name] / median["plain"], 2) for name in others}
    return OfAttention(round(1000 * median["plain"], 1), ratios)
