"""The image autoencoder of Stable Diffusion (arXiv 2112.10752), frame by frame; names are the checkpoints' keys.

Legend: n frames, z latent channels, h w latent height and width, H W picture height and width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from t2v_core.models.modelscope.attention import attend
from t2v_core.models.modelscope.channels_last import GroupNorm
from t2v_core.models.modelscope.config import AutoencoderConfig
from t2v_core.models.modelscope.layers import Conv2d, DoublingConv2d, silu


class Autoencoder(nn.Module):
    """Pictures to latents and back. Neither direction applies `config.scale_factor`: the caller does."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = Conv2d(2 * config.z_dim, 2 * config.z_dim, 1)
        self.post_quant_conv = Conv2d(config.z_dim, config.z_dim, 1)

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (n, 3, H, W) in -1..1 to the mean and log variance of their latents, (n, z, h, w) each."""
        mean, log_variance = self.quant_conv(self.encoder(frames)).chunk(2, dim=1)
        return mean, log_variance.clamp(-30.0, 20.0)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (n, z, h, w) to frames (n, 3, H, W), about -1..1 and not clamped."""
        latents = latents.contiguous(memory_format=torch.channels_last)
        return self.decoder(self.post_quant_conv(latents))


class Encoder(nn.Module):
    """Pictures to twice `z_dim` channels: mean and log variance."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        groups, dims = config.norm_groups, [config.dim * mult for mult in config.dim_mult]
        self.conv_in = Conv2d(3, config.dim, 3, padding=1)
        self.down = nn.ModuleList()
        dim = config.dim
        for level, out_dim in enumerate(dims):
            stage = nn.Module()
            stage.block = _residuals(dim, out_dim, count=config.res_blocks, groups=groups)
            stage.downsample = HalvingConv(out_dim) if level < len(dims) - 1 else nn.Identity()
            self.down.append(stage)
            dim = out_dim
        self.mid = Middle(dim, groups)
        self.norm_out = GroupNorm(groups, dim, eps=1e-6)
        self.conv_out = Conv2d(dim, 2 * config.z_dim, 3, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        """(n, 3, H, W) to (n, 2z, h, w)."""
        x = self.conv_in(frames.contiguous(memory_format=torch.channels_last))
        for stage in self.down:
            for block in stage.block:  # type: ignore[union-attr]
                x = block(x)
            x = stage.downsample(x)  # type: ignore[operator]
        return self.conv_out(silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Latents to pictures; `up[0]` is the stage of full size, as in the checkpoints."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        groups, dims = config.norm_groups, [config.dim * mult for mult in config.dim_mult]
        dim = dims[-1]
        self.conv_in = Conv2d(config.z_dim, dim, 3, padding=1)
        self.mid = Middle(dim, groups)
        stages = []
        for level, out_dim in reversed(list(enumerate(dims))):
            stage = nn.Module()
            stage.block = _residuals(dim, out_dim, count=config.res_blocks + 1, groups=groups)
            stage.upsample = DoublingConv(out_dim) if level > 0 else nn.Identity()
            stages.insert(0, stage)
            dim = out_dim
        self.up = nn.ModuleList(stages)
        self.norm_out = GroupNorm(groups, dim, eps=1e-6)
        self.conv_out = Conv2d(dim, 3, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """(n, z, h, w) to (n, 3, H, W)."""
        x = self.mid(self.conv_in(latents))
        for stage in reversed(self.up):
            for block in stage.block:  # type: ignore[union-attr]
                x = block(x)
            x = stage.upsample(x)  # type: ignore[operator]
        return self.conv_out(silu(self.norm_out(x)))


class Middle(nn.Module):
    """Residual block, self-attention, residual block at the smallest size."""

    def __init__(self, dim: int, groups: int) -> None:
        super().__init__()
        self.block_1 = Residual(dim, dim, groups)
        self.attn_1 = PlaceAttention(dim, groups)
        self.block_2 = Residual(dim, dim, groups)

    def forward(self, x: Tensor) -> Tensor:
        """(n, dim, h, w) to the same."""
        return self.block_2(self.attn_1(self.block_1(x)))


class Residual(nn.Module):
    """Two convolutions behind norm and SiLU, with a shortcut."""

    def __init__(self, dim: int, out_dim: int, groups: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(groups, dim, eps=1e-6)
        self.conv1 = Conv2d(dim, out_dim, 3, padding=1)
        self.norm2 = GroupNorm(groups, out_dim, eps=1e-6)
        self.conv2 = Conv2d(out_dim, out_dim, 3, padding=1)
        self.nin_shortcut = Conv2d(dim, out_dim, 1) if dim != out_dim else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(n, dim, h, w) to (n, out_dim, h, w)."""
        hidden = self.conv1(silu(self.norm1(x)))
        return self.conv2(silu(self.norm2(hidden)), plus=self.nin_shortcut(x))


class PlaceAttention(nn.Module):
    """One head over all places of a frame; its projections are 1×1 convolutions."""

    def __init__(self, dim: int, groups: int) -> None:
        super().__init__()
        self.norm = GroupNorm(groups, dim, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (Conv2d(dim, dim, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(n, dim, h, w) to the same."""
        hidden = self.norm(x)
        query, key, value = (rearrange(to(hidden), "n c h w -> n 1 (h w) c") for to in (self.q, self.k, self.v))
        mixed = attend(query, key, value)
        return self.proj_out(rearrange(mixed, "n 1 (h w) c -> n c h w", h=x.shape[-2]), plus=x)


class HalvingConv(nn.Module):
    """Half the size by a strided convolution, padded on the right and at the bottom only."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = Conv2d(dim, dim, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, dim, h, w) to (n, dim, h/2, w/2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class DoublingConv(nn.Module):
    """Twice the size by nearest neighbours and a convolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = DoublingConv2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(n, dim, h, w) to (n, dim, 2h, 2w)."""
        return self.conv(x)


def _residuals(dim: int, out_dim: int, *, count: int, groups: int) -> nn.ModuleList:
    return nn.ModuleList([Residual(dim if index == 0 else out_dim, out_dim, groups) for index in range(count)])
