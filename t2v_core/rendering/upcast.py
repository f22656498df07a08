"""Weights in a format that the device can't multiply well: each layer computes in a wider one while it is used.

Without instructions for bf16 or fp16 a processor emulates them, which takes several times as long as float32, and some
GPUs' fp16 is wrong. Keeping the weights in 16 bits and widening one layer's at a time costs a pass over the weights
instead, and still saves half of their memory. On a processor convolutions are packed as well while they run: what that
takes is nothing beside what it saves.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from t2v_core.models.modelscope.layers import Convolution, DoublingConv2d, pack
from t2v_core.rendering.devices import FORMATS, traits_of


def compute_dtype(weights: torch.dtype, *, device: str) -> torch.dtype:
    """What a network with such weights computes in: float32 where the device can't multiply their format well."""
    computes = {FORMATS[name] for name in traits_of(device).computes}
    return weights if weights in computes else torch.float32


def widen_on_use(network: nn.Module, dtype: torch.dtype) -> None:
    """Let every layer of a network see its own weights as `dtype` while it runs; between runs they stay as they are."""
    for layer in network.modules():
        narrow = {name: value for name, value in layer.named_parameters(recurse=False) if value.dtype is not dtype}
        if narrow:
            layer.register_forward_pre_hook(functools.partial(_widen, narrow, dtype))
            layer.register_forward_hook(functools.partial(_restore, narrow), always_call=True)


def scale_name(name: str) -> str:
    """What a weight's scale is called where it has one: a buffer that is 1 on all axes but the first."""
    return f"{name}_scale"


def _widen(narrow: dict[str, nn.Parameter], dtype: torch.dtype, layer: nn.Module, inputs: Any) -> None:
    for name, value in narrow.items():
        wide, scale = value.to(dtype), getattr(layer, scale_name(name), None)
        if scale is not None:
            wide = wide * scale.to(wide.device, dtype)
        setattr(layer, name, nn.Parameter(wide, requires_grad=False))
    # A convolution of doubled maps has its own kernels then, which take longer to be made.
    if isinstance(layer, Convolution) and not isinstance(layer, DoublingConv2d) and layer.is_worth_packing():
        layer.arrange_for(inputs[0])
        pack(layer)


def _restore(narrow: dict[str, nn.Parameter], layer: nn.Module, _: Any, output: Tensor) -> None:
    if isinstance(layer, Convolution) and layer.is_packed:
        layer.forget_packed()
    for name, value in narrow.items():
        setattr(layer, name, value)
