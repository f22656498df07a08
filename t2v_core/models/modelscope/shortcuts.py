"""Shortcuts through the UNet: each changes the picture a little for less work, and holds within a `with` block."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from t2v_core.models.modelscope.attention import Attention, SpatialTransformer, TemporalTransformer
from t2v_core.models.modelscope.frame_windows import attend_in_windows
from t2v_core.models.modelscope.layers import add
from t2v_core.models.modelscope.token_merging import attend_merged
from t2v_core.models.modelscope.unet import Memo, UNet3D


@dataclass(frozen=True, slots=True)
class Shortcuts:
    """What may be left out of the network's work; as it is made, nothing.

    `memo` answers for the deep blocks, `merge_tokens` is the share of the places that is merged in the spatial
    self-attention of the largest maps, `attention_window` how many frames temporal attention sees at once (0: all).
    """

    memo: Memo | None = None
    merge_tokens: float = 0.0
    attention_window: int = 0


NO_SHORTCUTS = Shortcuts()


@contextlib.contextmanager
def shortened(network: nn.Module, shortcuts: Shortcuts) -> Iterator[None]:
    """Within the block the network (a `UNet3D`) takes these shortcuts; outside of it nothing of them is left."""
    with contextlib.ExitStack() as stack:
        if shortcuts.memo is not None:
            stack.enter_context(_remembering(network, shortcuts.memo))
        if shortcuts.merge_tokens > 0:
            stack.enter_context(_merging(network, shortcuts.merge_tokens))
        if shortcuts.attention_window > 0:
            for attention in _attentions_over_frames(network):
                stack.enter_context(_windowed(attention, shortcuts.attention_window))
        yield


@contextlib.contextmanager
def _remembering(network: nn.Module, memo: Memo) -> Iterator[None]:
    def hand_over(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "memo": memo}

    handle = network.register_forward_pre_hook(hand_over, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _merging(network: nn.Module, share: float) -> Iterator[None]:
    """Merge where the maps are the largest that are attended to; how large they are, the latents say."""
    size = (0, 0)

    def measure(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        nonlocal size
        halvings = _halvings(network)
        # A convolution of stride 2 rounds up.
        size = (-(-args[0].shape[-2] // 2**halvings), -(-args[0].shape[-1] // 2**halvings))

    def attend(attention: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
        if tokens.shape[2] != size[0] * size[1]:
            return attention(tokens)
        return attend_merged(attention, tokens, size=size, share=share)

    handle = network.register_forward_pre_hook(measure)
    try:
        with contextlib.ExitStack() as stack:
            for block in _blocks(network, SpatialTransformer):
                stack.enter_context(_instead(block.attn1, attend))
            yield
    finally:
        handle.remove()


def _halvings(network: nn.Module) -> int:
    """How often the latents are halved before a spatial attention sees them."""
    assert isinstance(network, UNet3D)
    levels = len(network.config.dim_mult)
    attended = [level for level in range(levels) if 1 / 2**level in network.config.attn_scales]
    return min([*attended, levels - 1])


@contextlib.contextmanager
def _windowed(attention: Attention, window: int) -> Iterator[None]:
    """The projections are made once for all frames; only what lies between them goes window by window."""
    own = attention.core
    attention.core = functools.partial(attend_in_windows, own, window=window)
    try:
        yield
    finally:
        attention.core = own


def _attentions_over_frames(network: nn.Module) -> list[Attention]:
    blocks = _blocks(network, TemporalTransformer)
    return [attention for block in blocks for attention in (block.attn1, block.attn2)]


def _blocks(network: nn.Module, kind: type[nn.Module]) -> list[Any]:
    transformers: list[Any] = [module for module in network.modules() if isinstance(module, kind)]
    return [block for transformer in transformers for block in transformer.transformer_blocks]


@contextlib.contextmanager
def _instead(attention: nn.Module, attend: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> Iterator[None]:
    """Let `attend(forward, tokens)` stand in for a self-attention's forward; what hooks it has stay around it."""
    own, stood_in_already = attention.forward, "forward" in vars(attention)

    def forward(tokens: Tensor, *, plus: Tensor | None = None) -> Tensor:
        return add(attend(own, tokens), plus)

    attention.forward = forward
    try:
        yield
    finally:
        if stood_in_already:
            attention.forward = own
        else:
            del attention.forward
