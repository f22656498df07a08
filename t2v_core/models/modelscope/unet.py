"""The 3D UNet of ModelScope text-to-video (arXiv 2308.06571): noisy latents, timestep and text to the prediction.

Legend: b batch, c channels, f frames, h w latent height and width, n text tokens, d text features.
The attribute names are the published checkpoints' keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from t2v_core.models.modelscope.attention import (
    RememberedText,
    SpatialTransformer,
    TemporalTransformer,
    start_at_zero,
    texts_in,
)
from t2v_core.models.modelscope.blocks import Downsample, ResidualBlock, TemporalConv, Upsample
from t2v_core.models.modelscope.channels_last import GroupNorm
from t2v_core.models.modelscope.config import UNetConfig
from t2v_core.models.modelscope.layers import Conv2d, DoublingConv2d, FramewiseConv

Memo = Callable[[Callable[[], Tensor]], Tensor]
"""Is given a computation and answers with its result, or with what an earlier one gave in its place."""

OUTER_BLOCKS = 2
"""How many blocks at each end run in every step; those between may be answered by a `Memo` (arXiv 2312.00858).

In the 1.7B model these are a fifth of the arithmetic."""


class UNet3D(nn.Module):
    """Spatial layers see one frame, temporal layers one place of all frames."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.guidance: Tensor | None = None
        """What a LoRA that takes the guidance scale adds to the timestep's embedding, (dim,) float32."""
        time_dim = 4 * config.dim
        self.time_embed = nn.Sequential(nn.Linear(config.dim, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim))

        stem = nn.Conv2d(config.in_dim, config.dim, 3, padding=1)
        # The one transformer whose heads come from num_heads instead of from its channels.
        stem_over_frames = TemporalTransformer(
            config.dim, heads=config.num_heads, head_dim=config.head_dim, norm_groups=config.norm_groups
        )
        self.input_blocks = nn.ModuleList([nn.ModuleList([stem, stem_over_frames])])
        dims = [config.dim * mult for mult in config.dim_mult]
        skip_dims, dim, deepest = [config.dim], config.dim, len(dims) - 1
        for level, out_dim in enumerate(dims):
            for _ in range(config.res_blocks):
                self.input_blocks.append(nn.ModuleList(self._layers(dim, out_dim, level)))
                skip_dims.append(dim := out_dim)
            if level < deepest:
                self.input_blocks.append(Downsample(dim))
                skip_dims.append(dim)

        self.middle_block = nn.ModuleList(
            [self._residual(dim, dim), *self._transformers(dim), self._residual(dim, dim)]
        )

        self.output_blocks = nn.ModuleList()
        for level, out_dim in reversed(list(enumerate(dims))):
            for block in range(config.res_blocks + 1):
                layers = self._layers(dim + skip_dims.pop(), out_dim, level)
                dim = out_dim
                if level > 0 and block == config.res_blocks:
                    layers.append(Upsample(dim))
                self.output_blocks.append(nn.ModuleList(layers))

        self.out = nn.Sequential(
            GroupNorm(config.norm_groups, dim), nn.SiLU(), nn.Conv2d(dim, config.out_dim, 3, padding=1)
        )
        start_at_zero(self.out[-1])

    def forward(
        self, latents: Tensor, timesteps: Tensor, text: Tensor | RememberedText, *, memo: Memo | None = None
    ) -> Tensor:
        """Predict what the model was trained to predict (noise, velocity or clean latents).

        Up to the first layer that sees the text, one clip with several texts is computed once.

        Args:
            latents: (b, c, f, h, w), any f, h, w from 1 on, or (1, c, f, h, w) for all texts.
            timesteps: as many as latents, 0 to 999, fractions allowed.
            text: (b, n, d), the text tower's output, or (b, f, n, d), one for each frame.
            memo: stands between the network and its deep blocks; without one they run.

        Returns:
            (b, c, f, h, w).
        """
        frames, texts = latents.shape[2], texts_in(text)
        moment = timestep_embedding(timesteps, self.config.dim)
        if self.guidance is not None:
            moment = moment + self.guidance.to(moment.device)
        time = self.time_embed(moment.to(latents.dtype))
        x = rearrange(latents, "b c f h w -> (b f) c h w").contiguous(memory_format=torch.channels_last)
        inputs, outputs = list(self.input_blocks), list(self.output_blocks)

        def down(x: Tensor, blocks: list[nn.Module]) -> list[Tensor]:
            return [x := _apply(block, x, time=time, text=text, frames=frames) for block in blocks]

        def up(x: Tensor, blocks: list[nn.Module], skips: list[Tensor]) -> Tensor:
            for block in blocks:
                x = torch.cat([x, _for_each(skips.pop(), len(x))], dim=1)
                size = (skips[-1].shape[-2], skips[-1].shape[-1]) if skips else (0, 0)
                x = _apply(block, x, time=time, text=text, frames=frames, size=size)
            return x

        skips = down(x, inputs[:OUTER_BLOCKS])

        def deep() -> Tensor:
            all_skips = skips + down(skips[-1], inputs[OUTER_BLOCKS:])
            middle = _apply(self.middle_block, all_skips[-1], time=time, text=text, frames=frames)
            return up(middle, outputs[:-OUTER_BLOCKS], all_skips)

        x = up(memo(deep) if memo else deep(), outputs[-OUTER_BLOCKS:], skips)
        return rearrange(_for_each(self.out(x), texts * frames), "(b f) c h w -> b c f h w", f=frames)

    def arrange_for(self, latents: Tensor, *, texts: int) -> None:
        """Have the fastest forms for latents like these (1, c, f, h, w), in layers that are packed or will be."""
        frames, height, width = latents.shape[2:]
        sizes = [(height, width)]
        for block in self.input_blocks:
            _arrange(block, texts, frames, *sizes[-1], dtype=latents.dtype)
            if isinstance(block, Downsample):
                sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        for block in (self.middle_block, *self.output_blocks):
            _arrange(block, texts, frames, *sizes[-1], dtype=latents.dtype)
            if any(isinstance(layer, Upsample) for layer in block.children()):
                sizes.pop()

    def take_clips(self, *, together: bool) -> None:
        """Let several clips go through the convolutions over frames at once, or one after the other."""
        for layer in self.modules():
            if isinstance(layer, TemporalConv):
                layer.together = together

    def _layers(self, dim: int, out_dim: int, level: int) -> list[nn.Module]:
        attends = 1 / 2**level in self.config.attn_scales
        return [self._residual(dim, out_dim), *(self._transformers(out_dim) if attends else ())]

    def _residual(self, dim: int, out_dim: int) -> ResidualBlock:
        config = self.config
        return ResidualBlock(
            dim, out_dim, time_dim=4 * config.dim, norm_groups=config.norm_groups, dropout=config.dropout
        )

    def _transformers(self, dim: int) -> tuple[nn.Module, nn.Module]:
        config, heads = self.config, dim // self.config.head_dim
        over_places = SpatialTransformer(
            dim, heads=heads, head_dim=config.head_dim, context_dim=config.context_dim, norm_groups=config.norm_groups
        )
        over_frames = TemporalTransformer(dim, heads=heads, head_dim=config.head_dim, norm_groups=config.norm_groups)
        return over_places, over_frames


def timestep_embedding(timesteps: Tensor, dim: int) -> Tensor:
    """Sinusoids of timesteps (b,) as (b, dim) float32: cosines first, frequencies 10000^(-i / (dim/2))."""
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float()[:, None] * torch.exp(-math.log(10_000) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _arrange(block: nn.Module, texts: int, frames: int, height: int, width: int, *, dtype: torch.dtype) -> None:
    for layer in block.modules():
        if not isinstance(layer, (Conv2d, FramewiseConv)) or isinstance(layer, DoublingConv2d):
            continue
        over_frames = isinstance(layer, FramewiseConv)
        count, *size = (1, frames, height * width) if over_frames else (texts * frames, height, width)
        layer.arrange_for(torch.empty(count, layer.in_channels, *size, dtype=dtype, device="meta"))


def _for_each(maps: Tensor, count: int) -> Tensor:
    """One clip's feature maps (f, c, h, w) once for each of the texts, so that there are `count`; else as they are."""
    return maps if len(maps) == count else repeat(maps, "f c h w -> (b f) c h w", b=count // len(maps))


def _apply(
    block: nn.Module,
    x: Tensor,
    *,
    time: Tensor,
    text: Tensor | RememberedText,
    frames: int,
    size: tuple[int, int] = (0, 0),
) -> Tensor:
    """Run the layers of one block, each with what its kind needs; `size` is what an upsampling must reach."""
    for layer in block if isinstance(block, nn.ModuleList) else (block,):
        if isinstance(layer, ResidualBlock):
            x = layer(x, time, frames)
        elif isinstance(layer, (SpatialTransformer, TemporalTransformer)):
            x = layer(x, text, frames)
        elif isinstance(layer, Upsample):
            x = layer(x, size)
        else:
            x = layer(x)
    return x
