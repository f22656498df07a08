"""LoRAs in the weights of loaded networks: added in place, and taken out by reading the touched tensors again.

No second copy of the weights is kept: the model's own files are the copy.
"""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from t2v_core.models.layouts import ModelFolder
from t2v_core.models.loading import plan, read_into, read_target
from t2v_core.models.lora.file import Lora, Piece
from t2v_core.models.lora.places import GUIDANCE, GUIDANCE_WIDTH
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.packable import Packable, pack, unpack
from t2v_core.models.tensors import TensorRef

Progress = Callable[[int, int], None]
"""Told the tensors done and in all."""


def _ignore(done: int, total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Dose:
    """A LoRA and how strongly it counts."""

    lora: Lora
    weight: float


@dataclass(slots=True)
class _State:
    """What was done to a network: `applied` is None while it is being changed."""

    applied: tuple[Dose, ...] | None = ()
    touched: set[str] = field(default_factory=set)


class AppliedLoras:
    """Keeps a model's networks at the LoRAs that are wanted; `wanted` may change between runs."""

    def __init__(self, model: ModelFolder) -> None:
        self._model = model
        self._states: weakref.WeakKeyDictionary[nn.Module, _State] = weakref.WeakKeyDictionary()
        self.wanted: tuple[Dose, ...] = ()

    def differ(self, part: Part, network: nn.Module) -> bool:
        """Whether `update` would change this network."""
        return self._state(network).applied != self._for(part)

    def update(self, part: Part, network: nn.Module, *, progress: Progress = _ignore) -> None:
        """Bring a network to the LoRAs that are wanted; weights that are packed are so again afterwards.

        Whatever ends this early, the next call starts again from the files' weights.

        Raises:
            WeightsError: a file has gone or changed.
        """
        state, doses = self._state(network), self._for(part)
        if state.applied == doses:
            return
        state.applied = None
        changes = _changes(part, doses)
        done, total = 0, len(state.touched) + len(changes)
        with torch.no_grad(), _plain(network):
            tensors = network.state_dict(keep_vars=True)
            for _ in self._restored(part, tensors, state):
                done += 1
                progress(done, total)
            for name, change in changes.items():
                state.touched.add(name)
                _add(tensors[name], change)
                done += 1
                progress(done, total)
        state.applied = doses

    def adder(self, part: Part) -> Callable[[str, Tensor], None]:
        """What adds the LoRAs that are wanted to single weights of a part, each given with its name as it was read."""
        changes = _changes(part, self._for(part))

        def add(name: str, weight: Tensor) -> None:
            if name in changes:
                _add(weight, changes[name])

        return add

    def key(self, part: Part) -> tuple[tuple[Path, tuple[int, int], float], ...]:
        """What tells a part's weights with the wanted LoRAs from those with others."""
        return tuple((dose.lora.path, dose.lora.state, dose.weight) for dose in self._for(part))

    def guidance_embedding(self, scale: float) -> Tensor | None:
        """What a guidance scale adds to the timestep's embedding, (d,) float32; None unless a LoRA was trained so."""
        parts = [
            dose.weight * piece.scale * (piece.product().double() @ embed_guidance(scale))
            for dose in self.wanted
            for piece in dose.lora.pieces
            if piece.place.tensor == GUIDANCE
        ]
        # The projection itself isn't published: the LoRA is all that there is of it. The authors' own program fills it
        # with new random numbers at each start, whose mean is none.
        return torch.stack(parts).sum(0).float() if parts else None

    def _state(self, network: nn.Module) -> _State:
        return self._states.setdefault(network, _State())

    def _for(self, part: Part) -> tuple[Dose, ...]:
        """The doses that concern a part."""
        return tuple(
            dose
            for dose in self.wanted
            if dose.weight
            and (
                any(piece.place.part is part and piece.place.tensor != GUIDANCE for piece in dose.lora.pieces)
                or any(place is part for place, _, _ in dose.lora.biases)
            )
        )

    def _restored(self, part: Part, tensors: Mapping[str, Tensor], state: _State) -> Iterator[str]:
        """Read every touched tensor again from the model's files, bit for bit as loading did."""
        targets = {target.name: target for target in plan(self._model, part)} if state.touched else {}
        for name in sorted(state.touched):
            value, target = tensors[name], targets[name]
            own = (
                value.data
                if value.is_contiguous()
                else torch.empty(value.shape, dtype=value.dtype, device=value.device)
            )
            for _ in read_target(own, target):
                pass
            if own.data_ptr() != value.data_ptr():
                value.copy_(own)
            state.touched.discard(name)
            yield name


@contextlib.contextmanager
def _plain(network: nn.Module) -> Iterator[None]:
    """Within the block a network's weights are plain tensors."""
    packed = any(isinstance(layer, Packable) and layer.is_packed for layer in network.modules())
    if packed:
        unpack(network)
    try:
        yield
    finally:
        if packed:
            pack(network)


@dataclass(slots=True)
class _Change:
    """All that is to be added to one tensor."""

    pieces: list[tuple[float, Piece]] = field(default_factory=list)
    biases: list[tuple[float, TensorRef]] = field(default_factory=list)


def _changes(part: Part, doses: tuple[Dose, ...]) -> dict[str, _Change]:
    changes: dict[str, _Change] = {}
    for dose in doses:
        for piece in dose.lora.pieces:
            if piece.place.part is part and piece.place.tensor != GUIDANCE:
                changes.setdefault(piece.place.tensor, _Change()).pieces.append((dose.weight, piece))
        for place, name, ref in dose.lora.biases:
            if place is part:
                changes.setdefault(name, _Change()).biases.append((dose.weight, ref))
    return changes


def _add(tensor: Tensor, change: _Change) -> None:
    """Add everything in float32, and round once to the tensor's own format."""
    before = tensor.data.float()
    value = before.clone()
    for weight, piece in change.pieces:
        rows = slice(*piece.place.rows) if piece.place.rows else slice(None)
        value[rows].add_(piece.product(tensor.device), alpha=weight * piece.scale)
    for weight, ref in change.biases:
        other = torch.empty(ref.numel)
        read_into(other, ref)
        value.add_(other.to(tensor.device).view(value.shape) - before, alpha=weight)
    tensor.data.copy_(value)


def embed_guidance(scale: float) -> Tensor:
    """A guidance scale's sinusoids, (256,) float64: sines first, frequencies 10000^(-i / 127), of 1000 × the scale."""
    half = GUIDANCE_WIDTH // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float64) * (-math.log(10_000.0) / (half - 1)))
    angles = 1000.0 * scale * frequencies
    return torch.cat([angles.sin(), angles.cos()])
