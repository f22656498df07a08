"""The convolutional parts of the UNet: residual block, temporal convolution, down- and upsampling.

Feature maps are ((b f), c, h, w) in channels-last memory; `frames` says how many of the batch belong to one clip.
"""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from t2v_core.models.modelscope.attention import start_at_zero
from t2v_core.models.modelscope.channels_last import GroupNorm
from t2v_core.models.modelscope.layers import Conv2d, DoublingConv2d, FramewiseConv, Linear, add, clip_maps, silu


class TemporalConv(nn.Module):
    """Four convolutions over frames, added to their input; norms take their statistics over the whole clip."""

    together = False
    """Whether all clips go through it at once: a device with many cores has too little to do with one of them."""

    def __init__(self, dim: int, *, norm_groups: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(GroupNorm(norm_groups, dim), nn.SiLU(), FramewiseConv(dim, dim))
        self.conv2, self.conv3, self.conv4 = (
            nn.Sequential(GroupNorm(norm_groups, dim), nn.SiLU(), nn.Dropout(dropout), FramewiseConv(dim, dim))
            for _ in range(3)
        )
        start_at_zero(self.conv4[-1])

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """((b f), c, h, w) to the same."""
        tokens = rearrange(x, "(b f) c h w -> b f (h w) c", f=frames)
        # One clip at a time what is between the layers is half as large.
        clips = [self._clips(some) for some in tokens.split(len(tokens) if self.together else 1)]
        joined = clips[0] if len(clips) == 1 else torch.cat(clips)
        return rearrange(joined, "b f (h w) c -> (b f) c h w", h=x.shape[-2])

    def _clips(self, tokens: Tensor) -> Tensor:
        """(b, f, p, c) to the same."""
        hidden = maps = clip_maps(tokens)
        for block in (self.conv1, self.conv2, self.conv3, self.conv4):
            norm, _, *dropout, conv = block
            hidden = silu(norm(hidden))
            for layer in dropout:
                hidden = layer(hidden)
            hidden = conv(hidden, plus=maps if block is self.conv4 else None)
        return rearrange(hidden, "b c f p -> b f p c")


class ResidualBlock(nn.Module):
    """Two convolutions with the timestep added between them, a shortcut, then the temporal convolution."""

    def __init__(self, dim: int, out_dim: int, *, time_dim: int, norm_groups: int, dropout: float) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(GroupNorm(norm_groups, dim), nn.SiLU(), Conv2d(dim, out_dim, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), Linear(time_dim, out_dim))
        self.out_layers = nn.Sequential(
            GroupNorm(norm_groups, out_dim),
            nn.SiLU(),
            nn.Dropout(dropout),
            Conv2d(out_dim, out_dim, 3, padding=1),
        )
        start_at_zero(self.out_layers[-1])
        self.skip_connection = Conv2d(dim, out_dim, 1) if dim != out_dim else nn.Identity()
        # The published checkpoints spell it so.
        self.temopral_conv = TemporalConv(out_dim, norm_groups=norm_groups, dropout=dropout)

    def forward(self, x: Tensor, time: Tensor, frames: int) -> Tensor:
        """Feature maps ((b f), dim, h, w) and timestep embedding (b, time_dim) to ((b f), out_dim, h, w).

        The embedding may be (1, time_dim) for all clips.
        """
        shift = repeat(self.emb_layers(time), "b c -> (b f) c 1 1", f=len(x) // len(time))
        hidden = add(self.in_layers[2](silu(self.in_layers[0](x))), shift)
        hidden = self.out_layers[2](silu(self.out_layers[0](hidden)))
        hidden = self.out_layers[3](hidden, plus=self.skip_connection(x))
        return self.temopral_conv(hidden, frames)


class Downsample(nn.Module):
    """Half the height and width, rounded up."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.op = Conv2d(dim, dim, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """((b f), c, h, w) to ((b f), c, ⌈h/2⌉, ⌈w/2⌉)."""
        return self.op(x)


class Upsample(nn.Module):
    """Nearest-neighbour doubling, cut to the size that the skip connection has, then a convolution.

    The reference doubles without cutting and fails where a size was odd before it was halved.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = DoublingConv2d(dim)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """((b f), c, h, w) to ((b f), c, *size), where size is 2h or 2h - 1, and 2w or 2w - 1."""
        return self.conv(x, size)
