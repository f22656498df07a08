"""What layers have in common that pack their weights for a CPU, and how a whole network is packed and unpacked.

While a layer is packed, its parameter is an empty placeholder of the same shape: `pack` and `unpack` turn a network in
place, bit for bit, and with one layer's second copy at a time.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from t2v_core.models import cpu_kernels

_FEW_CHANNELS = 16
"""Layers with fewer input or output channels than this gain nothing by being packed."""


class Packable(nn.Module, abc.ABC):
    """A layer with a packed form."""

    is_packed = False
    is_emptied = False
    """Whether a placeholder stands for the weight, for this layer itself is packed or one that it is joined to."""
    goes_first = False
    """Whether it's packed before others, whose weights it packs together."""
    computes: torch.dtype | None = None
    """The format of what its packed weights are multiplied with, where that is wider than theirs."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Packable:  # type: ignore[override]
        """What `nn.Module.to` and its like do; a packed layer stays where and what it is.

        Raises:
            RuntimeError: it should become something else while it is packed.
        """
        if not (self.is_emptied or self.is_packed):
            return super()._apply(fn, recurse)
        dtype = next(weight.dtype for weight in self._weights())
        moved = fn(torch.empty(0, dtype=dtype, device="cpu"))
        if moved.device.type != "cpu" or moved.dtype is not dtype:
            raise RuntimeError("a packed layer can't be moved or converted: unpack it first")
        return self

    @property
    def place(self) -> tuple[int, ...]:
        """The shape of what is widened at once, where `computes` is wider than the weights; () for a copy that goes."""
        return tuple(size for size in next(self._weights()).shape if size > 1)

    def _weights(self) -> Iterator[Tensor]:
        """The matrices that are packed."""
        return (weight for weight in self.parameters(recurse=False) if weight.ndim > 1)

    def forget_packed(self) -> None:
        """Be as before packing, but for the weight, which somebody else brings."""
        self.is_packed = self.is_emptied = False
        vars(self).pop("_packed", None)

    @abc.abstractmethod
    def _pack(self) -> None: ...

    @abc.abstractmethod
    def _unpack(self) -> None: ...

    def is_worth_packing(self) -> bool:
        """Whether the layer's own weights are here, plain, large, and in a format that the processor multiplies."""
        return all(
            weight.device.type == "cpu"
            and min(weight.shape[:2]) >= _FEW_CHANNELS
            and cpu_kernels.usable(self.computes or weight.dtype)
            for weight in self._weights()
        )


def pack(network: nn.Module) -> bool:
    """Pack the weights of every layer for this processor, where it can; whether there was anything left to pack."""
    layers = [layer for layer in network.modules() if isinstance(layer, Packable) and not layer.is_packed]
    for layer in sorted(layers, key=lambda layer: not layer.goes_first):
        if layer.is_worth_packing():
            layer._pack()
            layer.is_packed = True
    return any(layer.is_packed for layer in layers)


def compute_in(network: nn.Module, dtype: torch.dtype) -> None:
    """Have every layer of a network packed for products in a wider format than its weights are in."""
    for layer in network.modules():
        if isinstance(layer, Packable):
            layer.computes = dtype


def unpack(network: nn.Module) -> None:
    """Give every layer its plain weights back."""
    for layer in network.modules():
        if isinstance(layer, Packable) and layer.is_packed:
            layer._unpack()
            layer.is_packed = False


def give_up(layer: Packable) -> None:
    """Leave a placeholder that knows the weight's shape and format."""
    layer.is_emptied = True
    weight = cast(Tensor, layer.weight)
    layer.weight = nn.Parameter(torch.empty_like(weight, device="meta"), requires_grad=False)


def take_back(layer: Packable, weight: Tensor) -> None:
    """Have plain weights again."""
    layer.is_emptied = False
    layer.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
