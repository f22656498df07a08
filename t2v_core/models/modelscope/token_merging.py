"""Token merging in spatial self-attention (ToMe for diffusion, arXiv 2303.17604): alike places attend as one.

Legend: n frames of all clips, p places of a frame, c channels, t targets, s sources.
The place at the upper left of each 2×2 cell is a target, the others are sources. The sources that are most like a
target join it, as their mean, for one attention; afterwards each gets that target's result. The published method draws
its targets at random; here they are fixed, so that a seed means one video.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

FEWEST_PLACES = 16
"""Maps smaller than this are left as they are: nothing could be won."""

LARGEST_SHARE = 0.75
"""The share of a map that its sources are."""

LARGEST_TABLE = 2**24
"""Elements of a table of likenesses, targets × sources, that is made at once; larger maps go a few frames at a time."""


@dataclass(frozen=True, slots=True)
class Merger:
    """Which places of each frame are one: `joined` sources (n, r) belong to the targets numbered `into` (n, r).

    `targets` (t,) and `alone` (n, s - r) are the places that stay.
    """

    targets: Tensor
    alone: Tensor
    joined: Tensor
    into: Tensor

    def merge(self, tokens: Tensor) -> Tensor:
        """(n, p, c) to (n, t + s - r, c): the targets, each the mean of itself and what joins it, then the rest."""
        sums = tokens[:, self.targets]
        counts = torch.ones_like(sums[..., :1])
        joining = _take(tokens, self.joined)
        _add(sums, self.into, joining)
        _add(counts, self.into, torch.ones_like(joining[..., :1]))
        return torch.cat([sums / counts, _take(tokens, self.alone)], dim=1)

    def spread(self, merged: Tensor, places: int) -> Tensor:
        """(n, t + s - r, c) back to (n, p, c)."""
        targets, alone = merged.split([len(self.targets), self.alone.shape[1]], dim=1)
        tokens = merged.new_empty(merged.shape[0], places, merged.shape[2])
        tokens[:, self.targets] = targets
        for index, values in ((self.alone, alone), (self.joined, _take(targets, self.into))):
            tokens.scatter_(1, repeat(index, "n r -> n r c", c=merged.shape[2]), values)
        return tokens


def attend_merged(attend: Callable[[Tensor], Tensor], tokens: Tensor, *, size: tuple[int, int], share: float) -> Tensor:
    """Apply an attention to tokens (b, f, p, c) of a map of this height and width with a share of its places merged."""
    batch, _, places, _ = tokens.shape
    if merged_places(size, share) < 1:
        return attend(tokens)
    flat = rearrange(tokens, "b f p c -> (b f) p c")
    merger = find_merger(flat, size=size, share=share)
    merged = attend(rearrange(merger.merge(flat), "(b f) p c -> b f p c", b=batch))
    return rearrange(merger.spread(rearrange(merged, "b f p c -> (b f) p c"), places), "(b f) p c -> b f p c", b=batch)


def merged_places(size: tuple[int, int], share: float) -> int:
    """How many places of a map disappear."""
    height, width = size
    places = height * width
    if places < FEWEST_PLACES:
        return 0
    return min(math.floor(share * places), places - math.ceil(height / 2) * math.ceil(width / 2))


def find_merger(tokens: Tensor, *, size: tuple[int, int], share: float) -> Merger:
    """Match the sources of tokens (n, p, c) with their nearest targets by the cosine, and choose the nearest pairs."""
    height, width = size
    places = torch.arange(height * width, device=tokens.device)
    is_target = (places // width % 2 == 0) & (places % width % 2 == 0)
    targets, sources = places[is_target], places[~is_target]
    directions = F.normalize(tokens, dim=-1)
    frames_at_once = max(1, LARGEST_TABLE // (len(targets) * len(sources)))
    found = [
        (part[:, sources] @ part[:, targets].transpose(1, 2)).max(dim=-1) for part in directions.split(frames_at_once)
    ]
    likeness, nearest = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = likeness.argsort(dim=-1, descending=True, stable=True)
    joined, alone = order.split([r := merged_places(size, share), order.shape[1] - r], dim=1)
    return Merger(targets, sources[alone], sources[joined], nearest.gather(1, joined))


def _take(tokens: Tensor, places: Tensor) -> Tensor:
    """Tokens (n, p, c) at places (n, r): (n, r, c)."""
    return tokens.gather(1, repeat(places, "n r -> n r c", c=tokens.shape[-1]))


def _add(sums: Tensor, rows: Tensor, values: Tensor) -> None:
    """Add values (n, r, c) to the rows (n, r) of sums (n, t, c), in a fixed order.

    Scattering has one on a CPU alone, and putting with accumulation has one on a GPU alone.
    """
    if sums.device.type == "cpu":
        sums.scatter_add_(1, repeat(rows, "n r -> n r c", c=sums.shape[-1]), values)
    else:
        frame = torch.arange(len(rows), device=rows.device)[:, None]
        sums.index_put_((frame, rows), values, accumulate=True)
