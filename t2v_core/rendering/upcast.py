"""Half-precision weights on a processor that can't multiply them: each layer computes in float32 while it is used.

Without instructions for bf16 or fp16 a processor emulates them, which takes several times as long as float32. Keeping
the weights in 16 bits and widening one layer's at a time costs a pass over the weights instead, and still saves half
of their memory.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_FLAGS = {torch.bfloat16: {"avx512_bf16", "amx_bf16", "bf16"}, torch.float16: {"avx512_fp16", "amx_fp16", "asimdhp"}}
_CPU_FACTS = Path("/proc/cpuinfo")


def compute_dtype(weights: torch.dtype, *, device: str) -> torch.dtype:
    """What a network with such weights computes in: float32 where the device would have to emulate their format."""
    if weights is torch.float32 or not device.startswith("cpu"):
        return weights
    return weights if _FLAGS[weights] & _cpu_flags() else torch.float32


def widen_on_use(network: nn.Module, dtype: torch.dtype) -> None:
    """Let every layer of a network see its own weights as `dtype` while it runs; between runs they stay as they are."""
    for layer in network.modules():
        narrow = {name: value for name, value in layer.named_parameters(recurse=False) if value.dtype is not dtype}
        if narrow:
            layer.register_forward_pre_hook(functools.partial(_widen, narrow, dtype))
            layer.register_forward_hook(functools.partial(_restore, narrow), always_call=True)


def _widen(narrow: dict[str, nn.Parameter], dtype: torch.dtype, layer: nn.Module, _: Any) -> None:
    for name, value in narrow.items():
        setattr(layer, name, nn.Parameter(value.to(dtype), requires_grad=False))


def _restore(narrow: dict[str, nn.Parameter], layer: nn.Module, _: Any, output: Tensor) -> None:
    for name, value in narrow.items():
        setattr(layer, name, value)


@functools.lru_cache(maxsize=1)
def _cpu_flags() -> frozenset[str]:
    """What this processor's kernel says it can do; nothing where it says nothing."""
    if platform.system() != "Linux" or not _CPU_FACTS.exists():
        return frozenset()
    lines = _CPU_FACTS.read_text(encoding="utf-8", errors="replace").splitlines()
    facts = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return frozenset(facts.partition(":")[2].split())
