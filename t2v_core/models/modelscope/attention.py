"""The spatial and the temporal transformer of the UNet.

Legend: b batch, f frames, p places of a frame (h·w), c channels, n text tokens, d features of one head.
Tokens are (b, f, p, c) throughout, a view of channels-last feature maps: nothing is copied on the way in or out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

OVER_PLACES = "b f p (heads d) -> (b f) heads p d"
OVER_FRAMES = "b f p (heads d) -> (b p) heads f d"
OVER_CLIP = "b f p (heads d) -> b heads (f p) d"

# CUDA's attention kernels put batch times heads on a grid axis of at most 65,535 blocks.
_LARGEST_GRID = 65_535


class Attention(nn.Module):
    """Multi-head attention; `axes` is the einops pattern that says what the tokens attend over."""

    def __init__(self, query_dim: int, *, heads: int, head_dim: int, axes: str, context_dim: int | None = None) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.axes = axes
        self.to_q = nn.Linear(query_dim, inner, bias=False)
        self.to_k = nn.Linear(context_dim or query_dim, inner, bias=False)
        self.to_v = nn.Linear(context_dim or query_dim, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, query_dim), nn.Dropout(0.0))

    def forward(self, tokens: Tensor, text: Tensor | None = None) -> Tensor:
        """Attend from tokens (b, f, p, c) to themselves along `axes`, or all of a clip to its text (b, n, c_text)."""
        frames, places = tokens.shape[1:3]
        query = rearrange(self.to_q(tokens), self.axes, heads=self.heads)
        if text is None:
            key, value = (rearrange(to(tokens), self.axes, heads=self.heads) for to in (self.to_k, self.to_v))
        else:
            # Every frame sees the same text: its keys and values are computed once, and the frames join the queries.
            key, value = (
                rearrange(to(text), "b n (heads d) -> b heads n d", heads=self.heads) for to in (self.to_k, self.to_v)
            )
        mixed = attend(query, key, value)
        source, target = self.axes.split(" -> ")
        return self.to_out(rearrange(mixed, f"{target} -> {source}", b=tokens.shape[0], f=frames, p=places))


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention of (batch, heads, tokens, d), in slices where the batch exceeds a kernel's grid."""
    rows = max(1, _LARGEST_GRID // query.shape[1])
    if query.shape[0] <= rows:
        return F.scaled_dot_product_attention(query, key, value)
    slices = zip(query.split(rows), key.split(rows), value.split(rows), strict=True)
    return torch.cat([F.scaled_dot_product_attention(q, k, v) for q, k, v in slices])


def start_at_zero(layer: nn.Module) -> None:
    """Let a residual branch add nothing before training."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class GEGLU(nn.Module):
    """A linear layer whose second half gates the first through an exact GELU (arXiv 2002.05202)."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * inner)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., dim) to (..., inner)."""
        value, gate = self.proj(tokens).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU to four times the width and back."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(dim, 4 * dim), nn.Dropout(0.0), nn.Linear(4 * dim, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., dim) to (..., dim)."""
        return self.net(tokens)


class TransformerBlock(nn.Module):
    """Two attentions and a feed-forward, each behind a LayerNorm and added to its input."""

    def __init__(self, dim: int, *, heads: int, head_dim: int, axes: str, context_dim: int | None) -> None:
        super().__init__()
        second_axes = axes if context_dim is None else OVER_CLIP
        self.attn1 = Attention(dim, heads=heads, head_dim=head_dim, axes=axes)
        self.ff = FeedForward(dim)
        self.attn2 = Attention(dim, heads=heads, head_dim=head_dim, axes=second_axes, context_dim=context_dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, text: Tensor | None) -> Tensor:
        """Tokens (b, f, p, c), text (b, n, c_text) or None to attend to the tokens once more."""
        tokens = tokens + self.attn1(self.norm1(tokens))
        tokens = tokens + self.attn2(self.norm2(tokens), text)
        return tokens + self.ff(self.norm3(tokens))


class SpatialTransformer(nn.Module):
    """Each frame attends to itself and to the text."""

    def __init__(self, dim: int, *, heads: int, head_dim: int, context_dim: int, norm_groups: int) -> None:
        super().__init__()
        inner = heads * head_dim
        self.norm = nn.GroupNorm(norm_groups, dim, eps=1e-6)
        self.proj_in = nn.Linear(dim, inner)
        block = TransformerBlock(inner, heads=heads, head_dim=head_dim, axes=OVER_PLACES, context_dim=context_dim)
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = nn.Linear(inner, dim)
        start_at_zero(self.proj_out)

    def forward(self, x: Tensor, text: Tensor, frames: int) -> Tensor:
        """Feature maps ((b f), c, h, w) and text (b, n, c_text); statistics of the norm are one frame's."""
        tokens = rearrange(self.norm(x), "(b f) c h w -> b f (h w) c", f=frames)
        tokens = self.proj_in(tokens)
        for block in self.transformer_blocks:
            tokens = block(tokens, text)
        return x + rearrange(self.proj_out(tokens), "b f (h w) c -> (b f) c h w", h=x.shape[-2])


class PlacewiseLinear(nn.Conv1d):
    """A convolution of kernel 1, kept as one for its checkpoint's sake, and applied to the last axis as a matrix."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__(dim, out_dim, kernel_size=1)

    def forward(self, input: Tensor) -> Tensor:
        """(..., dim) to (..., out_dim)."""
        return F.linear(input, self.weight[..., 0], self.bias)


class TemporalTransformer(nn.Module):
    """Each place attends to itself over the frames, twice: no text, no position encoding, no mask."""

    def __init__(self, dim: int, *, heads: int, head_dim: int, norm_groups: int) -> None:
        super().__init__()
        inner = heads * head_dim
        self.norm = nn.GroupNorm(norm_groups, dim, eps=1e-6)
        self.proj_in = PlacewiseLinear(dim, inner)
        block = TransformerBlock(inner, heads=heads, head_dim=head_dim, axes=OVER_FRAMES, context_dim=None)
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = PlacewiseLinear(inner, dim)
        start_at_zero(self.proj_out)

    def forward(self, x: Tensor, text: Tensor | None, frames: int) -> Tensor:
        """Feature maps ((b f), c, h, w); the text goes unused; statistics of the norm are the whole clip's."""
        clip = self.norm(rearrange(x, "(b f) c h w -> b c f (h w)", f=frames))
        tokens = self.proj_in(rearrange(clip, "b c f p -> b f p c"))
        for block in self.transformer_blocks:
            tokens = block(tokens, None)
        return x + rearrange(self.proj_out(tokens), "b f (h w) c -> (b f) c h w", h=x.shape[-2])
