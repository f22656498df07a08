"""Weights in a format that the device can't multiply well: each layer computes in a wider one while it is used.

Without instructions for bf16 or fp16 a processor emulates them, which takes several times as long as float32, and some
GPUs' fp16 is wrong. Keeping the weights in 16 bits and widening one layer's at a time costs a pass over the weights
instead, and still saves half of their memory.

On a processor most weights are packed for good, in the narrow format, and widened in their packed order, where torch
can tell where their numbers lie. An older one packs convolutions while they run, and so feed-forwards, which then take
their rows in parts: what that takes is nothing beside what it saves.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from t2v_core.models.cpu_kernels import usable
from t2v_core.models.modelscope.layers import Convolution, DoublingConv2d
from t2v_core.models.modelscope.packable import Packable, pack
from t2v_core.models.narrow import keeps_narrow
from t2v_core.rendering.devices import FORMATS, traits_of
from t2v_core.rendering.number_formats import FP8, NumberFormat

NarrowWeights = dict[nn.Module, dict[str, nn.Parameter]]
"""The narrow weights of some layers, each with its name."""


def compute_dtype(weights: torch.dtype, *, device: str) -> torch.dtype:
    """What a network with such weights computes in: float32 where the device can't multiply their format well."""
    computes = {FORMATS[name] for name in traits_of(device).computes}
    return weights if weights in computes else torch.float32


def widen_on_use(network: nn.Module, dtype: torch.dtype) -> None:
    """Let every layer of a network see its own weights as `dtype` while it runs; between runs they stay as they are."""
    for unit, layers in _units(network):
        narrow: NarrowWeights = {layer: found for layer in layers if (found := _narrow_weights(layer, dtype))}
        if narrow:
            unit.register_forward_pre_hook(functools.partial(_widen, narrow, dtype))
            unit.register_forward_hook(functools.partial(_restore, narrow), always_call=True)


def stays_narrow(numbers: NumberFormat, *, kind: str) -> bool:
    """Whether weights in this format are packed as they are, and widened in their packed order."""
    is_scaled = numbers.name == FP8
    return kind == "cpu" and numbers.is_widened and not is_scaled and usable(numbers.computes) and keeps_narrow()


def _narrow_weights(layer: nn.Module, dtype: torch.dtype) -> dict[str, nn.Parameter]:
    """A layer's own weights that aren't `dtype`, but for those that it widens itself."""
    if isinstance(layer, Packable) and layer.computes is dtype and (layer.is_emptied or layer.is_worth_packing()):
        return {}
    return {name: value for name, value in layer.named_parameters(recurse=False) if value.dtype is not dtype}


def _units(network: nn.Module) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
    """What is widened together: a layer, or all of a module's that runs them several times in one pass."""
    if getattr(network, "runs_in_parts", False):
        yield network, list(network.modules())
        return
    yield network, [network]
    for child in network.children():
        yield from _units(child)


def scale_name(name: str) -> str:
    """What a weight's scale is called where it has one: a buffer that is 1 on all axes but the first."""
    return f"{name}_scale"


def _widen(narrow: NarrowWeights, dtype: torch.dtype, unit: nn.Module, inputs: Any) -> None:
    for layer, weights in narrow.items():
        for name, value in weights.items():
            wide, scale = value.to(dtype), getattr(layer, scale_name(name), None)
            if scale is not None:
                wide = wide * scale.to(wide.device, dtype)
            setattr(layer, name, nn.Parameter(wide, requires_grad=False))
        if _is_packed_meanwhile(layer, unit):
            if isinstance(layer, Convolution):
                layer.arrange_for(inputs[0])
            pack(layer)


def _is_packed_meanwhile(layer: nn.Module, unit: nn.Module) -> bool:
    """Whether a layer's weights are packed while it runs: it's a convolution, or runs several times in its unit.

    A convolution of doubled maps has its own kernels then, which take longer to be made.
    """
    if not isinstance(layer, Packable) or isinstance(layer, DoublingConv2d):
        return False
    return (isinstance(layer, Convolution) or layer is not unit) and layer.is_worth_packing()


def _restore(narrow: NarrowWeights, unit: nn.Module, _: Any, output: Tensor) -> None:
    for layer, weights in narrow.items():
        if isinstance(layer, Packable) and layer.is_emptied:
            layer.forget_packed()
        for name, value in weights.items():
            setattr(layer, name, value)
