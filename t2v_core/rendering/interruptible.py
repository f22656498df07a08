"""Leaving a network in the middle of its work, as soon as the user asks to stop.

On a CPU one step of sampling takes a minute and one frame many seconds, longer than anybody should wait.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

LEAST_WEIGHTS = 50_000
"""Weights of a block that is worth a look before it: two microseconds."""


class Stopped(Exception):  # noqa: N818 - stopping on request is no error
    """A network was left before it had a result; what came before is whole.

    No BaseException: hooks of the layers that are left, such as those that narrow weights again, run for Exceptions.
    """


@contextlib.contextmanager
def interruptible(network: nn.Module, stopped: Callable[[], bool]) -> Iterator[None]:
    """Within the block, each block of layers first asks `stopped`, and raises `Stopped` if that is so."""

    def look(block: nn.Module, inputs: Any) -> None:
        if stopped():
            raise Stopped

    handles = [block.register_forward_pre_hook(look) for block in network.modules() if _takes_long(block)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _takes_long(module: nn.Module) -> bool:
    """Whether a module's own children are layers with matrices so large that looking costs nothing beside them.

    The 1.7B model's UNet calls 406 such blocks in a step, and between two of them lies a fortieth of its work at most,
    which is one convolution.
    """
    layers = (weight for child in module.children() for weight in child.parameters(recurse=False))
    return sum(weight.numel() for weight in layers if weight.ndim > 1) >= LEAST_WEIGHTS
