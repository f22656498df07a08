"""A network whose weights wait in main memory and come to the device block by block, while the block before works.

Two places on the device take turns, each as large as the largest block; nothing else is allocated, however long a run
is. On a device that copies beside its work the next block is fetched ahead, else each is fetched when it is needed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from t2v_core.models.loading import blocks_of
from t2v_core.rendering.page_locked import PageLocked, aligned


@dataclass(slots=True)
class _Block:
    """A module with its weights packed into one piece of main memory; `places` are where in it each one begins."""

    module: nn.Module
    waiting: Tensor
    weights: list[nn.Parameter]
    places: list[int]

    def point_to(self, memory: Tensor) -> None:
        """Let the weights be what lies in this memory, uint8 in the order of `waiting`."""
        for weight, place in zip(self.weights, self.places, strict=True):
            size = weight.numel() * weight.element_size()
            values = memory[place : place + size].view(weight.dtype)
            # Not all devices know strides; kernels that lie channels last are on those that do.
            plain = weight.is_contiguous()
            weight.data = values.view(weight.shape) if plain else values.as_strided(weight.shape, weight.stride())


@dataclass(slots=True)
class _Place:
    """One of the two pieces of the device's memory: the number of the block in it, and when it may be used."""

    memory: Tensor
    block: int | None = None
    filled: Any = None
    left: Any = None


@dataclass(slots=True)
class _Streams:
    """The device's two queues, the one that computes and the one that copies; `copying` is None where it has one."""

    module: Any
    copying: Any = field(default=None)

    @classmethod
    def of(cls, device: torch.device) -> _Streams:
        module = getattr(torch, device.type, None)
        return cls(module, module.Stream(device)) if device.type in ("cuda", "xpu") and module else cls(None)

    def mark(self) -> Any:
        """A mark behind everything that the device was given to compute so far."""
        return self.module.current_stream().record_event() if self.copying is not None else None

    def copy(self, source: Tensor, place: Tensor, *, after: Any) -> Any:
        """Copy beside the computing, once the mark `after` is reached; a mark behind the copy."""
        if self.copying is None:
            place.copy_(source)
            return None
        if after is not None:
            self.copying.wait_event(after)
        with self.module.stream(self.copying):
            place.copy_(source, non_blocking=True)
        return self.copying.record_event()

    def wait_for(self, mark: Any) -> None:
        """Let what is computed from now on wait for a mark."""
        if mark is not None:
            self.module.current_stream().wait_event(mark)


class BlockStream:
    """Streams a network's weights to a device from when it is made until `close`; they are in main memory after that.

    The blocks are what the network's lists hold, so each must be called by the network itself. They are expected in the
    order in which they came the last time; another order costs waiting and nothing else.
    """

    def __init__(self, network: nn.Module, *, device: str, pinned: bool) -> None:
        self._streams = _Streams.of(torch.device(device))
        take = PageLocked().take if pinned else functools.partial(torch.empty, dtype=torch.uint8)
        self._blocks = [_packed(module, take) for module in blocks_of(network)]
        largest = max(block.waiting.numel() for block in self._blocks)
        self._places = [_Place(torch.empty(largest, dtype=torch.uint8, device=device)) for _ in range(2)]
        for place in self._places:  # what lay there before may still be in use
            place.left = self._streams.mark()
        count = len(self._blocks)
        self._after = {number: (number + 1) % count for number in range(count)}
        self._working: int | None = None
        self._before: int | None = None
        self._handles: list[Any] = []
        for number, block in enumerate(self._blocks):
            enter, leave = functools.partial(self._enter, number), functools.partial(self._leave, number)
            # First and last, so that what widens a layer's weights finds them.
            self._handles.append(block.module.register_forward_pre_hook(enter, prepend=True))
            self._handles.append(block.module.register_forward_hook(leave, always_call=True))

    @property
    def bytes_on_device(self) -> int:
        """What the two places take."""
        return sum(place.memory.numel() for place in self._places)

    def close(self) -> None:
        """Give the device's memory back."""
        self._release()
        for handle in self._handles:
            handle.remove()
        for place in self._places:
            if place.filled is not None:
                place.filled.synchronize()
        self._handles, self._places = [], []

    def _enter(self, number: int, module: nn.Module, args: Any) -> None:
        self._release()  # of a block that was left by an error that its hooks didn't see
        place = self._place_of(number) or self._fetch(number, into=self._free_place())
        self._streams.wait_for(place.filled)
        self._blocks[number].point_to(place.memory)
        self._working = number
        if self._before is not None:
            self._after[self._before] = number
        self._before = number
        upcoming = self._after[number]
        if self._streams.copying is not None and self._place_of(upcoming) is None:
            self._fetch(upcoming, into=next(other for other in self._places if other is not place))

    def _leave(self, number: int, module: nn.Module, args: Any, output: Any) -> None:
        self._release()

    def _release(self) -> None:
        if self._working is None:
            return
        place = self._place_of(self._working)
        if place is not None:
            place.left = self._streams.mark()
        block = self._blocks[self._working]
        block.point_to(block.waiting)
        self._working = None

    def _fetch(self, number: int, *, into: _Place) -> _Place:
        waiting = self._blocks[number].waiting
        into.filled = self._streams.copy(waiting, into.memory[: waiting.numel()], after=into.left)
        into.block = number
        return into

    def _place_of(self, number: int) -> _Place | None:
        return next((place for place in self._places if place.block == number), None)

    def _free_place(self) -> _Place:
        return next(place for place in self._places if place.block is None or place.block != self._before)


def streamed_bytes(network: nn.Module) -> int:
    """What a network takes on the device while it is streamed: two of its largest blocks; it may be on meta."""
    return 2 * max(_layout(list(module.parameters()))[1] for module in blocks_of(network))


def _layout(weights: list[nn.Parameter]) -> tuple[list[int], int]:
    """Where each weight begins in one piece of memory, and how long that is."""
    places, end = [], 0
    for weight in weights:
        places.append(end)
        end += aligned(weight.numel() * weight.element_size())
    return places, end


def _packed(module: nn.Module, take: Callable[[int], Tensor]) -> _Block:
    """Move a module's weights into one piece of main memory."""
    weights = list(module.parameters())
    places, size = _layout(weights)
    block = _Block(module, take(size), weights, places)
    own = [weight.data for weight in weights]
    block.point_to(block.waiting)
    for weight, values in zip(weights, own, strict=True):
        weight.data.copy_(values)
    return block
