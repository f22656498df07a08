"""Attention from matrix products and a softmax, for devices whose fused kernel is missing or wrong.

Legend: b batch, heads, n queries, m keys, d features of one head.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

SCORES_AT_ONCE = 2**26
"""How many float32 scores a slice has at most: 256 MB."""


def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
    is_causal: bool = False,
    scores_at_once: int = SCORES_AT_ONCE,
) -> Tensor:
    """What scaled_dot_product_attention gives for (b, heads, n, d), (b, heads, m, d) and (b, heads, m, d).

    The mask is one value for each key, (1, 1, 1, m). Scores and softmax are float32 whatever the format: in half
    precision some devices' overflow or go wrong. Slices of the heads, and where one head has too many scores, of its
    queries keep the memory small.
    """
    batch = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    queries, keys, values = (
        tensor.expand(*batch, *tensor.shape[-2:]).reshape(-1, *tensor.shape[-2:]) for tensor in (query, key, value)
    )
    factor = float(query.shape[-1]) ** -0.5 if scale is None else scale
    (heads, length, _), reached = queries.shape, keys.shape[1]
    rows = max(1, min(length, scores_at_once // max(1, reached)))
    group = max(1, scores_at_once // max(1, rows * reached))
    # One result of the whole size instead of slices that are joined: they would be there twice.
    mixed = queries.new_empty(heads, length, values.shape[-1])
    for head in range(0, heads, group):
        these = slice(head, head + group)
        turned, mixed_here = keys[these].float().transpose(1, 2), values[these]
        for row in range(0, length, rows):
            some = slice(row, row + rows)
            scores = torch.bmm(queries[these, some].float() * factor, turned)
            if attn_mask is not None:
                scores += attn_mask[0]
            if is_causal:
                scores = scores.masked_fill(_later(scores.shape[1], reached, row, scores.device), -torch.inf)
            weights = scores.softmax(-1).to(values.dtype)
            mixed[these, some] = torch.bmm(weights, mixed_here)
    return mixed.reshape(*batch, length, values.shape[-1])


class PlainAttention(TorchFunctionMode):
    """Within the block, every attention of any network is computed by `plain_attention`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        assert len(args) == 3
        assert kwargs.keys() <= {"attn_mask", "scale", "is_causal"}
        return plain_attention(*args, **kwargs)


def attention_by(*, fused: bool) -> contextlib.AbstractContextManager[Any]:
    """Within the block, attention is torch's fused kernel or the plain one."""
    return contextlib.nullcontext() if fused else PlainAttention()


def _later(rows: int, columns: int, first: int, device: torch.device) -> Tensor:
    """(rows, columns), true where a token would look at one that comes after it; the first row is token `first`."""
    places = torch.arange(first, first + rows, device=device)[:, None]
    return torch.arange(columns, device=device)[None] > places
