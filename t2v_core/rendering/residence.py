"""Where the parts of a model are: on the device, waiting in main memory, or not loaded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from torch import Tensor, nn

from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.rendering.devices import empty_cache, kind_of, synchronize, traits_of, weights_moving
from t2v_core.rendering.layout import join_projections, separate_projections
from t2v_core.rendering.measures import RUNGS, Measures
from t2v_core.rendering.offload import BlockStream
from t2v_core.rendering.page_locked import PageLocked
from t2v_core.rendering.plan import free_memory

Load = Callable[[str], nn.Module]
"""Loads a part to the device of that name."""

_ROOM_IN_MAIN_MEMORY = 1.2
"""A part waits in main memory only if this many times its size is free there."""


class Residence:
    """Holds the loaded parts of one model, each where the rung wants it."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._parts: dict[Part, nn.Module] = {}
        self._last: Part | None = None
        self._rung = RUNGS[0]
        self._stream: BlockStream | None = None
        self._pinned = traits_of(device).pinned
        self._waiting: dict[Part, dict[str, Tensor]] = {}
        """Page-locked main memory for parts that wait; kept while they work, for they will wait again."""

    def __contains__(self, part: Part) -> bool:
        return part in self._parts

    def follow(self, rung: Measures, *, working: Part | None = None) -> None:
        """Do as a rung says from now on, and at once with all parts but the one that works, and with that one."""
        self._rung = rung
        if working is not None:
            self.make_room(working)
            if working in self._parts:
                self._bring(working)

    def part(self, name: Part, load: Load) -> nn.Module:
        """A part on the device, or streamed to it; `load` is called if it isn't loaded."""
        self.make_room(name)
        if name not in self._parts:
            self._parts[name] = load("cpu" if self._streams(name) else self._device)
        return self._bring(name)

    def make_room(self, working: Part) -> None:
        """Let the parts go that the rung wants away while this one works, and what the last one worked in."""
        leaving = [name for name in self._parts if self._rung.sends_away(name, working=working)]
        for name in leaving:
            self._send_away(name)
        # What the last part worked in would lie beside this one's weights.
        if (leaving or working is not self._last) and kind_of(self._device) == "cpu":
            empty_cache(self._device)
        self._last = working

    @contextlib.contextmanager
    def changing(self, name: Part) -> Iterator[None]:
        """Within the block the weights of a part may be changed in place; nothing of the old ones stays anywhere."""
        if name is Part.UNET:
            self._close_stream()
        try:
            yield
        finally:
            self._bring(name)

    def drop(self, name: Part) -> None:
        """Forget a part."""
        if name is Part.UNET:
            self._close_stream()
        self._parts.pop(name, None)
        self._waiting.pop(name, None)

    def rest(self, *, keep: bool) -> None:
        """Leave the device: all parts wait in main memory if `keep` says so and there is room, else they go."""
        for name in tuple(self._parts):
            if not keep:
                self.drop(name)
            elif kind_of(self._device) != "cpu":
                self._send_away(name)

    @property
    def bytes_on_device(self) -> int:
        """What the parts that are on the device take there."""
        if self._stream is not None:
            return self._stream.bytes_on_device + sum(_size(part) for part in self._elsewhere(Part.UNET))
        return sum(_size(part) for part in self._elsewhere(None))

    @property
    def bytes_loaded(self) -> int:
        """What all loaded parts take, wherever they are."""
        return sum(_size(part) for part in self._parts.values())

    def modules(self) -> tuple[nn.Module, ...]:
        """All loaded parts."""
        return tuple(self._parts.values())

    def _elsewhere(self, without: Part | None) -> Iterator[nn.Module]:
        kind = kind_of(self._device)
        for name, part in self._parts.items():
            if name is not without and next(part.parameters()).device.type in (kind, "meta"):
                yield part

    def _bring(self, name: Part) -> nn.Module:
        part = self._parts[name]
        if self._streams(name):
            if self._stream is None:
                separate_projections(part)
                with weights_moving():
                    self._stream = BlockStream(part, device=self._device, pinned=self._pinned)
            return part
        if name is Part.UNET:
            self._close_stream()
        if kind_of(self._device) == "cpu":
            return part
        with weights_moving():
            if self._pinned:
                for weight in part.parameters():
                    weight.data = weight.data.to(self._device, non_blocking=True)
            else:
                part.to(self._device)
        join_projections(part)
        return part

    def _send_away(self, name: Part) -> None:
        part = self._parts[name]
        if name is Part.UNET:
            self._close_stream()
        is_here = next(part.parameters()).device.type == kind_of(self._device)
        # On a CPU there is no other place: what doesn't work has to be read again from the disk's cache.
        if kind_of(self._device) == "cpu" or (is_here and _size(part) * _ROOM_IN_MAIN_MEMORY > free_memory()):
            self.drop(name)
        elif is_here:
            separate_projections(part)
            with weights_moving():
                self._wait(name, part) if self._pinned else part.to("cpu")

    def _wait(self, name: Part, part: nn.Module) -> None:
        """Copy a part to page-locked memory, from which it comes back twice as fast."""
        waiting, memory = self._waiting.setdefault(name, {}), PageLocked()
        for key, weight in part.named_parameters():
            place = waiting.get(key)
            if place is None or (place.shape, place.dtype) != (weight.shape, weight.dtype):
                room = memory.take(weight.numel() * weight.element_size())
                place = room.view(weight.dtype).as_strided(weight.shape, weight.stride())
                waiting[key] = place
            place.copy_(weight.data, non_blocking=True)
        synchronize(self._device)
        for key, weight in part.named_parameters():
            weight.data = waiting[key]

    def _streams(self, name: Part) -> bool:
        return self._rung.blocks and name is Part.UNET

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _size(part: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in part.state_dict().values())
