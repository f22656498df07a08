"""The convolutional parts of the UNet: residual block, temporal convolution, down- and upsampling.

Feature maps are ((b f), c, h, w) in channels-last memory; `frames` says how many of the batch belong to one clip.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from t2v_core.models.modelscope.attention import start_at_zero


class FramewiseConv(nn.Conv3d):
    """A 3×1×1 convolution over frames, kept as a Conv3d for its checkpoint's sake, run as a 2D one over (f, places)."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__(dim, out_dim, kernel_size=(3, 1, 1), padding=(1, 0, 0))

    def forward(self, input: Tensor) -> Tensor:
        """(b, dim, f, p) to (b, out_dim, f, p), with zeros before the first and after the last frame."""
        return F.conv2d(input, self.weight[..., 0], self.bias, padding=(1, 0))


class TemporalConv(nn.Module):
    """Four convolutions over frames, added to their input; norms take their statistics over the whole clip."""

    def __init__(self, dim: int, *, norm_groups: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.GroupNorm(norm_groups, dim), nn.SiLU(), FramewiseConv(dim, dim))
        self.conv2, self.conv3, self.conv4 = (
            nn.Sequential(nn.GroupNorm(norm_groups, dim), nn.SiLU(), nn.Dropout(dropout), FramewiseConv(dim, dim))
            for _ in range(3)
        )
        start_at_zero(self.conv4[-1])

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """((b f), c, h, w) to the same."""
        clip = rearrange(x, "(b f) c h w -> b c f (h w)", f=frames)
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            clip = conv(clip)
        return x + rearrange(clip, "b c f (h w) -> (b f) c h w", h=x.shape[-2])


class ResidualBlock(nn.Module):
    """Two convolutions with the timestep added between them, a shortcut, then the temporal convolution."""

    def __init__(self, dim: int, out_dim: int, *, time_dim: int, norm_groups: int, dropout: float) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(norm_groups, dim), nn.SiLU(), nn.Conv2d(dim, out_dim, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_dim, out_dim))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(norm_groups, out_dim),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Conv2d(out_dim, out_dim, 3, padding=1),
        )
        start_at_zero(self.out_layers[-1])
        self.skip_connection = nn.Conv2d(dim, out_dim, 1) if dim != out_dim else nn.Identity()
        # The published checkpoints spell it so.
        self.temopral_conv = TemporalConv(out_dim, norm_groups=norm_groups, dropout=dropout)

    def forward(self, x: Tensor, time: Tensor, frames: int) -> Tensor:
        """Feature maps ((b f), dim, h, w) and timestep embedding (b, time_dim) to ((b f), out_dim, h, w)."""
        shift = repeat(self.emb_layers(time), "b c -> (b f) c 1 1", f=frames)
        hidden = self.out_layers(self.in_layers(x) + shift)
        return self.temopral_conv(self.skip_connection(x) + hidden, frames)


class Downsample(nn.Module):
    """Half the height and width, rounded up."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(dim, dim, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """((b f), c, h, w) to ((b f), c, ⌈h/2⌉, ⌈w/2⌉)."""
        return self.op(x)


class Upsample(nn.Module):
    """Nearest-neighbour doubling, cut to the size that the skip connection has, then a convolution.

    The reference doubles without cutting and fails where a size was odd before it was halved.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """((b f), c, h, w) to ((b f), c, *size), where size is 2h or 2h - 1, and 2w or 2w - 1."""
        height, width = size
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest")[..., :height, :width])
