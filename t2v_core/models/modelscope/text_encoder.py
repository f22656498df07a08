"""The text tower of OpenCLIP (arXiv 2212.07143), up to its penultimate layer; names are the checkpoints' keys.

Legend: b prompts, n tokens, d features. The last layer and the projection to the joint space are never used by the
video model, so they are never built, nor is the vision half.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from t2v_core.models.modelscope.config import TextConfig


class TextEncoder(nn.Module):
    """Token ids to features: embeddings, all layers but the last, the final norm."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(torch.zeros(config.context_length, config.width))
        self.transformer = Transformer(config)
        self.ln_final = nn.LayerNorm(config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids (b, n), with n at most the context length, to features (b, n, d)."""
        return self.ln_final(self.transformer(self.embed(tokens)))

    def embed(self, tokens: Tensor) -> Tensor:
        """Token ids (b, n) to what goes into the first layer (b, n, d)."""
        return self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]


class Transformer(nn.Module):
    """The stack of layers that is in use."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([Layer(config.width, config.heads) for _ in range(config.layers - 1)])

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, d) to the same."""
        for layer in self.resblocks:
            x = layer(x)
        return x


class Layer(nn.Module):
    """Causal self-attention and a feed-forward of four times the width, each behind a LayerNorm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = CausalAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, d) to the same."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class CausalAttention(nn.Module):
    """Each token attends to itself and to those before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.normal_(self.in_proj_weight, std=width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, d) to the same."""
        projected = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = rearrange(projected, "b n (three heads d) -> three b heads n d", three=3, heads=self.heads)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out_proj(rearrange(mixed, "b heads n d -> b n (heads d)"))


class FeedForward(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) to the same."""
        return self.c_proj(F.gelu(self.c_fc(x)))
