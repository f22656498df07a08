"""Temporal attention in windows: in a long clip each frame attends to its neighbours, not to all frames.

Legend: p places of all clips, f frames, d features of one head. Windows overlap, and where they do their results are
blended by weights that rise and fall in straight lines, so that no frame is a seam.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Core = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention of query, key and value (p, heads, f, d) over f, to the same shape."""


def attend_in_windows(core: Core, query: Tensor, key: Tensor, value: Tensor, *, window: int) -> Tensor:
    """Attend over frames (p, heads, f, d) window by window; to all at once if one window does."""
    frames = query.shape[2]
    starts = window_starts(frames, window)
    if len(starts) == 1:
        return core(query, key, value)
    weights = blend_weights(frames, window).to(query)
    blended = torch.zeros_like(query)
    for start, weight in zip(starts, weights, strict=True):
        part = slice(start, start + window)
        mixed = core(query[:, :, part], key[:, :, part], value[:, :, part])
        blended[:, :, part].addcmul_(mixed, weight[part, None])
    return blended


def window_starts(frames: int, window: int) -> list[int]:
    """Where the windows begin: as few as overlap by a quarter or more, spread evenly; one if it covers all frames."""
    if frames <= window:
        return [0]
    most = max(1, window - max(1, window // 4)) if window > 1 else 1
    gaps = -(-(frames - window) // most)
    return [round(index * (frames - window) / gaps) for index in range(gaps + 1)]


def blend_weights(frames: int, window: int) -> Tensor:
    """The share (windows, f) that each window has in each frame; a frame's shares are 1 in sum."""
    weights = torch.zeros(len(starts := window_starts(frames, window)), frames)
    ramp = torch.arange(1, window + 1, dtype=torch.float32)
    for row, start in zip(weights, starts, strict=True):
        row[start : start + window] = torch.minimum(ramp, ramp.flip(0))
    return weights / weights.sum(dim=0)
