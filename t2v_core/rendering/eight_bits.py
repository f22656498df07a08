"""Weights in eight bits: half of the memory of fp16, widened to that again while a layer runs.

A weight is a float8 (e4m3: a sign, four bits of exponent, three of mantissa) times a scale of its row, so that the
largest of each row is the largest that the format has. What is small, or goes straight in or out of the network, stays
as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from t2v_core.rendering.upcast import scale_name

LEAST_WEIGHTS = 2**14
"""Smaller tensors gain nothing."""

_LARGEST = 448.0
_KEPT = ("time_embed.", "input_blocks.0.0.", "out.")


def is_narrowed(name: str, value: Tensor) -> bool:
    """Whether a UNet's tensor is kept in eight bits: matrices and kernels, no norms, biases and embeddings."""
    return value.ndim > 1 and value.numel() >= LEAST_WEIGHTS and not name.startswith(_KEPT)


class EightBits:
    """Narrows tensors one after the other as they are loaded, then gives the network their scales."""

    def __init__(self) -> None:
        self._scales: dict[str, Tensor] = {}

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """The tensor in eight bits, or as it is."""
        if not is_narrowed(name, value):
            return value
        rows = value.float()
        axes = tuple(range(1, value.ndim))
        scale = (rows.abs().amax(axes, keepdim=True) / _LARGEST).clamp_min(torch.finfo(torch.float32).tiny)
        self._scales[name] = scale
        return (rows / scale).to(torch.float8_e4m3fn)

    def attach(self, network: nn.Module) -> None:
        """Put the scales where `upcast.widen_on_use` finds them."""
        for name, scale in self._scales.items():
            path, _, weight = name.rpartition(".")
            network.get_submodule(path).register_buffer(scale_name(weight), scale, persistent=False)


def narrow_shapes(network: nn.Module) -> None:
    """Make a network without memory (on the meta device) as large as one in eight bits."""
    eight, state = EightBits(), dict(network.state_dict())
    narrowed = {name: eight(name, value) for name, value in state.items()}
    network.load_state_dict(narrowed, strict=True, assign=True)
    eight.attach(network)
    network.requires_grad_(False)
