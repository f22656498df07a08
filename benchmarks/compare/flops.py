"""How much arithmetic a network does: 2 FLOP for each multiply-add of matrix products, convolutions and attention.

Everybody's time is held against the same count, that of the network as its authors run it. Whoever computes the text's
keys and values once instead of for each frame does a few per cent less: `text_once` says how much that is.
Legend: n feature maps (batch times frames), p places of one, c channels.
"""

from __future__ import annotations

from benchmarks.compare.sizes import Size
from t2v_core.models.modelscope.config import AutoencoderConfig, ModelConfig, TextConfig, UNetConfig

TOKENS = 77


def unet(config: UNetConfig, size: Size, *, text_once: bool = False) -> float:
    """One forward pass."""
    batch, _, frames, height, width = size.latents
    maps, time_dim = batch * frames, 4 * config.dim
    text = batch * TOKENS * (1 if text_once else frames)

    def residual(dim: int, out_dim: int, places: int) -> float:
        shortcut = _matmul(maps * places, dim, out_dim) if dim != out_dim else 0.0
        spatial = _matmul(maps * places, 9 * (dim + out_dim), out_dim) + _matmul(batch, time_dim, out_dim)
        return spatial + shortcut + 4 * _matmul(maps * places, 3 * out_dim, out_dim)

    def feed_forward(inner: int, places: int) -> float:
        return _matmul(maps * places, inner, 12 * inner)

    def over_places(dim: int, places: int) -> float:
        projections = _matmul(maps * places, dim, (2 + 4 + 2) * dim) + _matmul(text, config.context_dim, 2 * dim)
        cores = _attention(maps, places, places, dim) + _attention(maps, places, TOKENS, dim)
        return projections + cores + feed_forward(dim, places)

    def over_frames(dim: int, inner: int, places: int) -> float:
        projections = _matmul(maps * places, dim, 2 * inner) + 2 * _matmul(maps * places, inner, 4 * inner)
        return projections + 2 * _attention(batch * places, frames, frames, inner) + feed_forward(inner, places)

    def layers(dim: int, out_dim: int, level: int) -> float:
        places = places_at[level]
        attends = 1 / 2**level in config.attn_scales
        transformers = over_places(out_dim, places) + over_frames(out_dim, out_dim, places) if attends else 0.0
        return residual(dim, out_dim, places) + transformers

    places_at = [-(-height // 2**level) * -(-width // 2**level) for level in range(len(config.dim_mult))]
    dims = [config.dim * mult for mult in config.dim_mult]
    total = _matmul(batch, config.dim + time_dim, time_dim)
    total += _matmul(maps * places_at[0], 9 * config.dim, config.in_dim + config.out_dim)
    total += over_frames(config.dim, config.num_heads * config.head_dim, places_at[0])
    skips, dim, deepest = [config.dim], config.dim, len(dims) - 1
    for level, out_dim in enumerate(dims):
        for _ in range(config.res_blocks):
            total += layers(dim, out_dim, level)
            skips.append(dim := out_dim)
        if level < deepest:
            total += _matmul(maps * places_at[level + 1], 9 * dim, dim)
            skips.append(dim)
    places = places_at[deepest]
    total += 2 * residual(dim, dim, places) + over_places(dim, places) + over_frames(dim, dim, places)
    for level, out_dim in reversed(list(enumerate(dims))):
        for _ in range(config.res_blocks + 1):
            total += layers(dim + skips.pop(), out_dim, level)
            dim = out_dim
        if level > 0:
            total += _matmul(maps * places_at[level - 1], 9 * dim, dim)
    return total


def decoder(config: AutoencoderConfig, size: Size) -> float:
    """Decoding all frames of a clip."""
    batch, _, frames, height, width = size.latents
    maps, places = batch * frames, height * width
    dims = [config.dim * mult for mult in config.dim_mult]

    def residual(dim: int, out_dim: int) -> float:
        shortcut = _matmul(maps * places, dim, out_dim) if dim != out_dim else 0.0
        return _matmul(maps * places, 9 * (dim + out_dim), out_dim) + shortcut

    dim = dims[-1]
    total = _matmul(maps * places, config.z_dim, config.z_dim) + _matmul(maps * places, 9 * config.z_dim, dim)
    total += 2 * residual(dim, dim) + _matmul(maps * places, dim, 4 * dim) + _attention(maps, places, places, dim)
    for level, out_dim in reversed(list(enumerate(dims))):
        for _ in range(config.res_blocks + 1):
            total += residual(dim, out_dim)
            dim = out_dim
        if level > 0:
            places *= 4
            total += _matmul(maps * places, 9 * dim, dim)
    return total + _matmul(maps * places, 9 * dim, 3)


def text(config: TextConfig) -> float:
    """One prompt through the text tower, without its last layer, which nobody needs."""
    width = config.width
    layer = _matmul(TOKENS, width, 12 * width) + _attention(1, TOKENS, TOKENS, width)
    return (config.layers - 1) * layer


def end_to_end(config: ModelConfig, size: Size, *, steps: int) -> float:
    """Two prompts, `steps` with guidance, and all frames decoded."""
    return 2 * text(config.text) + 2 * steps * unet(config.unet, size) + decoder(config.vae, size)


def _matmul(rows: int, inner: int, columns: int) -> float:
    return 2.0 * rows * inner * columns


def _attention(batch: int, queries: int, keys: int, dim: int) -> float:
    """Scores and their mixture, of all heads together."""
    return 4.0 * batch * queries * keys * dim
