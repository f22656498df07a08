"""Leaving a network in the middle of its work, as soon as the user asks to stop.

On a CPU one step of sampling takes a minute and one frame many seconds, longer than anybody should wait.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

LEAST_WEIGHTS = 50_000
"""Weights of a layer that is worth a look before it: two microseconds."""


class Stopped(Exception):  # noqa: N818 - stopping on request is no error
    """A network was left before it had a result; what came before is whole.

    No BaseException: hooks of the layers that are left, such as those that narrow weights again, run for Exceptions.
    """


@contextlib.contextmanager
def interruptible(
    network: nn.Module, stopped: Callable[[], bool], *, whole: tuple[type[nn.Module], ...] = ()
) -> Iterator[None]:
    """Within the block, each large layer first asks `stopped`, and raises `Stopped` if that is so.

    Blocks of the kinds `whole` are asked for as one: compiled code knows nothing of the layers in it.
    """

    def look(layer: nn.Module, inputs: Any) -> None:
        if stopped():
            raise Stopped

    layers = [layer for layer in _seen(network, whole) if isinstance(layer, whole) or _takes_long(layer)]
    handles = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _seen(network: nn.Module, whole: tuple[type[nn.Module], ...]) -> Iterator[nn.Module]:
    yield network
    if not isinstance(network, whole):
        for child in network.children():
            yield from _seen(child, whole)


def _takes_long(layer: nn.Module) -> bool:
    """Whether a layer's own matrices are so large that looking costs nothing beside them.

    The 1.7B model's UNet has 572 of them, and between two of them lies a fortieth of a step at most.
    """
    return sum(weight.numel() for weight in layer.parameters(recurse=False) if weight.ndim > 1) >= LEAST_WEIGHTS
