"""The spatial and the temporal transformer of the UNet.

Legend: b batch, f frames, p places of a frame (h·w), c channels, n text tokens, d features of one head.
Tokens are (b, f, p, c) throughout, a view of channels-last feature maps: nothing is copied on the way in or out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from t2v_core.models import cpu_kernels
from t2v_core.models.modelscope.channels_last import HALVES, GroupNorm
from t2v_core.models.modelscope.layers import GatedLinear, JoinedLinear, Linear, PlacewiseLinear, clip_maps

OVER_PLACES = "b f p (heads d) -> (b f) heads p d"
OVER_FRAMES = "b f p (heads d) -> (b p) heads f d"

# CUDA's attention kernels put batch times heads on a grid axis of at most 65,535 blocks.
_LARGEST_GRID = 65_535
# Up to so many tokens products in 16 bits are faster than a processor's fused attention: fewer where the processor
# multiplies tiles, any number where it multiplies 16 bits in vectors alone.
_SHORT_SEQUENCE = 32
_SHORT_WITH_TILES = 8
# So many numbers (6 MB) stay in a processor's cache between the products.
_NUMBERS_AT_ONCE = 3 * 2**20
# So many keys a processor's fused attention takes at once; what is left over costs as much as all the others.
_KEYS_AT_ONCE = 16
# As many tokens go through a feed-forward at once on a processor; see benchmarks/layers.py.
_ROWS_AT_ONCE = 4096


class RememberedText:
    """A prompt's features with their keys and values, which every layer makes once for all steps.

    They are (b, n, c_text), or (b, f, n, c_text) where each frame has a text of its own. On a processor keys of nothing
    fill up the last few, behind a mask: what that adds to the attention is exactly zero.
    """

    def __init__(self, features: Tensor, *, part_of: RememberedText | None = None, frames: slice = slice(None)) -> None:
        self.features = features
        self._whole, self._frames = part_of, frames
        self._projected: dict[Attention, tuple[Tensor, Tensor]] = {}
        self.mask = _mask_to_fill_up(features) if part_of is None else part_of.mask
        """What is added to a key's scores: (1, 1, 1, n), with minus infinity for keys of nothing. None if all count."""

    def projected(self, layer: Attention) -> tuple[Tensor, Tensor]:
        """The layer's keys and values, (b, n, heads·d) or (b, f, n, heads·d), as many as the mask has places."""
        if self._whole is not None:
            key, value = self._whole.projected(layer)
            return key[:, self._frames], value[:, self._frames]
        if layer not in self._projected:
            key, value = layer.to_k(self.features), layer.to_v(self.features)
            if self.mask is not None:
                room = self.mask.shape[-1] - key.shape[-2]
                key, value = (F.pad(part, (0, 0, 0, room)) for part in (key, value))
            self._projected[layer] = (key, value)
        return self._projected[layer]

    def of_frames(self, frames: slice) -> RememberedText:
        """The text of some of the frames."""
        if self.features.ndim == 3:
            return self
        return RememberedText(self.features[:, frames], part_of=self, frames=frames)


class Attention(nn.Module):
    """Multi-head attention; `axes` is the einops pattern that says what tokens attend over."""

    def __init__(self, query_dim: int, *, heads: int, head_dim: int, axes: str, context_dim: int | None = None) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.axes = axes
        self.to_q = Linear(query_dim, inner, bias=False)
        self.to_k = Linear(context_dim or query_dim, inner, bias=False)
        self.to_v = Linear(context_dim or query_dim, inner, bias=False)
        self.to_out = nn.Sequential(Linear(inner, query_dim), nn.Dropout(0.0))
        self.to_qkv = JoinedLinear(self.to_q, self.to_k, self.to_v) if context_dim is None else None
        # What a shortcut may stand in for: everything between the projections.
        self.core: Callable[[Tensor, Tensor, Tensor], Tensor] = attend

    def forward(
        self, tokens: Tensor, text: Tensor | RememberedText | None = None, *, plus: Tensor | None = None
    ) -> Tensor:
        """Attend from tokens (b, f, p, c) to themselves along `axes`, or all of a clip to its text.

        The text is (b, n, c_text), or each frame's own, (b, f, n, c_text). `plus` (b, f, p, c) is added to the result.
        """
        mixed = self._to_themselves(tokens) if text is None else self._to_text(tokens, text)
        return self.to_out[0](mixed, plus=plus)

    def _to_themselves(self, tokens: Tensor) -> Tensor:
        assert self.to_qkv is not None
        source, target = self.axes.split(" -> ")
        sizes = {"f": tokens.shape[1], "p": tokens.shape[2]}
        # Over frames one clip at a time, so that its axes are turned without copying anything.
        at_once = len(tokens) if self.axes == OVER_PLACES else 1
        mixed = [
            self.core(*(rearrange(part, self.axes, heads=self.heads) for part in clips))
            for clips in zip(*(part.split(at_once) for part in self.to_qkv(tokens)), strict=True)
        ]
        found = [rearrange(some, f"{target} -> {source}", **sizes) for some in mixed]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _to_text(self, tokens: Tensor, text: Tensor | RememberedText) -> Tensor:
        remembered = text if isinstance(text, RememberedText) else RememberedText(text)
        # Where every frame sees the same text, the frames join the queries.
        over = "b heads (f p) d" if remembered.features.ndim == 3 else "(b f) heads p d"
        of_text = (
            "b n (heads d) -> b heads n d" if remembered.features.ndim == 3 else "b f n (heads d) -> (b f) heads n d"
        )
        query = rearrange(self.to_q(tokens), f"b f p (heads d) -> {over}", heads=self.heads)
        key, value = (rearrange(part, of_text, heads=self.heads) for part in remembered.projected(self))
        mixed = attend(query, key, value, mask=remembered.mask)
        return rearrange(mixed, f"{over} -> b f p (heads d)", b=tokens.shape[0], f=tokens.shape[1])


def attend(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention of (batch, heads, tokens, d), by what is fastest for their place and size.

    The mask (1, 1, 1, keys) is added to the scores.
    """
    if mask is None and query.device.type == "cpu" and key.shape[2] <= _longest_by_products(query.dtype):
        return _by_products(query, key, value)
    rows = max(1, _LARGEST_GRID // query.shape[1])
    if query.shape[0] <= rows:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    slices = zip(query.split(rows), key.split(rows), value.split(rows), strict=True)
    return torch.cat([F.scaled_dot_product_attention(q, k, v, attn_mask=mask) for q, k, v in slices])


def _longest_by_products(dtype: torch.dtype) -> float:
    """Of how many tokens at most a processor's attention is faster by products, see benchmarks/layers.py."""
    if dtype is torch.float32:
        return 0
    if cpu_kernels.multiplies_tiles():
        return _SHORT_WITH_TILES
    return math.inf if cpu_kernels.has_avx512() and cpu_kernels.usable(dtype) else _SHORT_SEQUENCE


def _by_products(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Batched products of so many numbers at once: a processor's fused kernel in 16 bits takes twice as long."""
    batch, heads, rows, dim = query.shape
    keys = key.shape[2]
    of_row = keys + 2 * dim
    of_head = rows * of_row + 2 * keys * dim
    if batch * heads * of_head <= _NUMBERS_AT_ONCE:
        return _mixed(query, key, value)
    result = query.new_empty(batch, rows, heads, value.shape[-1]).transpose(1, 2)
    sizes = ((batch, heads * of_head), (heads, of_head), (rows, of_row))
    parts = (cpu_kernels.equal_parts(count, at_once=max(1, _NUMBERS_AT_ONCE // each)) for count, each in sizes)
    for some, these, those in itertools.product(*parts):
        result[some, these, those] = _mixed(query[some, these, those], key[some, these], value[some, these])
    return result


def _mixed(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of (batch, heads, tokens, d) by products, in the format of what comes in.

    A large score in 16 bits has few digits left behind the point, where its weight, a power, needs them. So scores are
    made twice, the second time less the largest of their row, which cancels out in the softmax: those that have any
    weight are near zero then, and have their digits.
    """
    batch, scale = query.shape[0], query.shape[-1] ** -0.5
    query, key, value = (part.flatten(0, 1) for part in (query, key, value))
    keys = key.transpose(1, 2)
    largest = _largest(torch.baddbmm(query.new_zeros(1), query, keys, beta=0, alpha=scale))
    weights = torch.baddbmm(largest.neg_(), query, keys, alpha=scale).softmax(-1)
    return torch.bmm(weights, value).unflatten(0, (batch, -1))


def _largest(scores: Tensor) -> Tensor:
    """The largest of each row of scores (..., m), (..., 1); in 16 bits in a quarter of the time that torch takes.

    As integers, such numbers are in order among those above zero, and in reverse order among those below.
    """
    if scores.dtype not in HALVES:
        return scores.amax(-1, keepdim=True)
    bits = scores.view(torch.int16)
    above, below = bits.amax(-1, keepdim=True), bits.amin(-1, keepdim=True)
    return torch.where(above < 0, below, above).view(scores.dtype)


def _mask_to_fill_up(text: Tensor) -> Tensor | None:
    """The mask (1, 1, 1, m) behind which keys of nothing make the attention to a text (..., n, c) faster, if any do."""
    keys = text.shape[-2]
    room = -keys % _KEYS_AT_ONCE
    if not room or text.device.type != "cpu" or keys <= _SHORT_SEQUENCE or not cpu_kernels.fuses_masks(text.dtype):
        return None
    return F.pad(text.new_zeros(1, 1, 1, keys), (0, room), value=-torch.inf)


def start_at_zero(layer: nn.Module) -> None:
    """Let a residual branch add nothing before training."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class GEGLU(nn.Module):
    """The gated layer under the name that the checkpoints have for it."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = GatedLinear(dim, 2 * inner)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., dim) to (..., inner)."""
        return self.proj(tokens)


class FeedForward(nn.Module):
    """A gated layer to four times the width, and back."""

    runs_in_parts = True
    """Its layers run several times in a pass: where their weights are widened, it's once for all parts."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(dim, 4 * dim), nn.Dropout(0.0), Linear(4 * dim, dim))

    def forward(self, tokens: Tensor, *, plus: Tensor | None = None) -> Tensor:
        """(..., dim) to (..., dim), with `plus` added."""
        if not cast(GEGLU, self.net[0]).proj.is_packed:
            return self._rows(tokens, plus)
        # A processor takes as long for a part of the rows after another, and the wide middle stays in its caches.
        result = torch.empty_like(tokens)
        parts = [
            rows.flatten(0, -2).split(_ROWS_AT_ONCE) for rows in (tokens, result, *(() if plus is None else (plus,)))
        ]
        for rows, found, *more in zip(*parts, strict=True):
            self._rows(rows, *more, out=found)
        return result

    def _rows(self, tokens: Tensor, plus: Tensor | None = None, *, out: Tensor | None = None) -> Tensor:
        return self.net[2](self.net[0](tokens), plus=plus, out=out)


class TransformerBlock(nn.Module):
    """Two attentions and a feed-forward, each behind a LayerNorm and added to its input."""

    def __init__(self, dim: int, *, heads: int, head_dim: int, axes: str, context_dim: int | None) -> None:
        super().__init__()
        self.attn1 = Attention(dim, heads=heads, head_dim=head_dim, axes=axes)
        self.ff = FeedForward(dim)
        self.attn2 = Attention(dim, heads=heads, head_dim=head_dim, axes=axes, context_dim=context_dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, text: Tensor | RememberedText | None) -> Tensor:
        """Tokens (b, f, p, c), text as `Attention` takes it, or None to attend to the tokens once more.

        The tokens of one clip with several texts become as many clips, once the text has its say.
        """
        tokens = self.attn1(self.norm1(tokens), plus=tokens)
        if text is not None and tokens.shape[0] < (texts := texts_in(text)):
            tokens = repeat(tokens, "1 f p c -> b f p c", b=texts)
        tokens = self.attn2(self.norm2(tokens), text, plus=tokens)
        return self.ff(self.norm3(tokens), plus=tokens)


class SpatialTransformer(nn.Module):
    """Each frame attends to itself and to the text."""

    def __init__(self, dim: int, *, heads: int, head_dim: int, context_dim: int, norm_groups: int) -> None:
        super().__init__()
        inner = heads * head_dim
        self.norm = GroupNorm(norm_groups, dim, eps=1e-6)
        self.proj_in = Linear(dim, inner)
        block = TransformerBlock(inner, heads=heads, head_dim=head_dim, axes=OVER_PLACES, context_dim=context_dim)
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = Linear(inner, dim)
        start_at_zero(self.proj_out)

    def forward(self, x: Tensor, text: Tensor | RememberedText, frames: int) -> Tensor:
        """Feature maps ((b f), c, h, w) and text as `Attention` takes it; statistics of the norm are one frame's.

        The maps may be of one clip where there are several texts: the result has a clip for each.
        """
        tokens = self.proj_in(rearrange(self.norm(x), "(b f) c h w -> b f (h w) c", f=frames))
        for block in self.transformer_blocks:
            tokens = block(tokens, text)
        return _projected_onto(x, tokens, self.proj_out, frames=frames)


class TemporalTransformer(nn.Module):
    """Each place attends to itself over the frames, twice: no text, no position encoding, no mask."""

    def __init__(self, dim: int, *, heads: int, head_dim: int, norm_groups: int) -> None:
        super().__init__()
        inner = heads * head_dim
        self.norm = GroupNorm(norm_groups, dim, eps=1e-6)
        self.proj_in = PlacewiseLinear(dim, inner)
        block = TransformerBlock(inner, heads=heads, head_dim=head_dim, axes=OVER_FRAMES, context_dim=None)
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = PlacewiseLinear(inner, dim)
        start_at_zero(self.proj_out)

    def forward(self, x: Tensor, text: Tensor | RememberedText | None, frames: int) -> Tensor:
        """Feature maps ((b f), c, h, w); the text goes unused; statistics of the norm are the whole clip's."""
        clips = self.norm(clip_maps(rearrange(x, "(b f) c h w -> b f (h w) c", f=frames)))
        tokens = self.proj_in(rearrange(clips, "b c f p -> b f p c"))
        for block in self.transformer_blocks:
            tokens = block(tokens, None)
        return _projected_onto(x, tokens, self.proj_out, frames=frames)


def texts_in(text: Tensor | RememberedText) -> int:
    """How many texts there are, one for each clip."""
    return (text.features if isinstance(text, RememberedText) else text).shape[0]


def _projected_onto(x: Tensor, tokens: Tensor, projection: Linear | PlacewiseLinear, *, frames: int) -> Tensor:
    """Feature maps ((b f), c, h, w) and the projection of their transformed tokens, added."""
    shortcut = rearrange(x, "(b f) c h w -> b f (h w) c", f=frames)
    if len(shortcut) < len(tokens):
        shortcut = repeat(shortcut, "1 f p c -> b f p c", b=len(tokens))
    return rearrange(projection(tokens, plus=shortcut), "b f (h w) c -> (b f) c h w", h=x.shape[-2])
