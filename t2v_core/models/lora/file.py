"""Reads a LoRA: what it adds to which tensors of a model, checked before anything is changed."""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from t2v_core.models.loading import read_into
from t2v_core.models.lora.entries import ALPHA, BIAS, DOWN, OTHER_LORA, UP, Layer, layers_of
from t2v_core.models.lora.places import GUIDANCE, Place, places_of
from t2v_core.models.matching import bare, listed
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.models.tensors import FileError, TensorRef, dimensions
from t2v_core.models.whole import opened, read_json

PEFT_CONFIG = "adapter_config.json"
_PEFT_STEM = "adapter_model"
_WIDTHS = {768: "It was made for Stable Diffusion 1.", 2048: "It was made for SDXL."}


class Kind(enum.Enum):
    """The published LoRAs that make a model sample in a few steps."""

    MCM = "MCM"
    T2V_TURBO = "T2V-Turbo"


@dataclass(frozen=True, slots=True)
class Piece:
    """What is added to one place: `scale` times the product of two small matrices.

    `folded` products are (o·k, i·k) matrices for a kernel (o, i, k, …), as loralb makes them.
    """

    place: Place
    up: TensorRef
    down: TensorRef
    scale: float
    folded: bool

    def product(self, device: torch.device | str = "cpu") -> Tensor:
        """The product in the place's shape, float32, without the scale."""
        up, down = (_matrix(tensor, folded=self.folded, device=device) for tensor in (self.up, self.down))
        product, shape = up @ down, self.place.shape
        if self.place.is_embedding:
            return product.T
        if self.folded and self.place.is_over_time:
            # A square kernel, of which the mean over one side is what counts.
            out, into, size = shape[:3]
            return product.reshape(out, into, size, size, 1).mean(dim=-2, keepdim=True)
        return product.reshape(shape)


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA that fits a model: `pieces` change matrices, `biases` (by our tensors' names) take others' places."""

    path: Path
    state: tuple[int, int]
    kind: Kind | None
    pieces: tuple[Piece, ...]
    biases: tuple[tuple[Part, str, TensorRef], ...]

    @property
    def rank(self) -> int:
        """The largest rank."""
        return max((_rank(piece.place, piece.up, piece.down) or 0 for piece in self.pieces), default=0)


def read_lora(path: Path, config: ModelConfig) -> Lora:
    """The LoRA in a file, for a model of these sizes; only headers and a few single numbers are read.

    Raises:
        FileError: it's no LoRA, or another model's, or damaged; says which entries and what to do.
    """
    return _read_lora(path, _state(path), _state(path.with_name(PEFT_CONFIG), missing=(0, 0)), config)


@functools.lru_cache(maxsize=16)
def _read_lora(path: Path, state: tuple[int, int], _peft_state: tuple[int, int], config: ModelConfig) -> Lora:
    layers = layers_of(path, places_of(config))
    _check(path, layers)
    scale = _scales(path)
    pieces = tuple(_piece(layer, scale=scale) for layer in layers if UP in layer.entries)
    biases = tuple(
        (layer.place.part, layer.place.bias, layer.entries[BIAS]) for layer in layers if BIAS in layer.entries
    )
    return Lora(path, state, _kind(pieces, config), pieces, biases)


def _check(path: Path, layers: Sequence[Layer]) -> None:
    """Raise for halves that are missing, sizes that don't fit, and numbers that are no weights."""
    missing = [
        f"{layer.place.module} ({half})"
        for layer in layers
        for half, other in ((UP, DOWN), (DOWN, UP))
        if half not in layer.entries and (other in layer.entries or ALPHA in layer.entries)
    ]
    if missing:
        raise FileError(path, f"lacks one half of {listed(missing)}.", remedy="Download it again, or ask its author.")
    whole = [layer.place.module for layer in layers if not all(ref.is_floating for ref in _weights(layer))]
    if whole:
        raise FileError(
            path,
            f"holds whole numbers where weights should be (quantised?): {listed(whole)}.",
            remedy="Get it as fp16, bf16 or fp32.",
        )
    wrong = [layer for layer in layers if not _fits(layer)]
    if wrong:
        told = next((f" {words}" for layer in wrong if (words := _made_for(layer))), "")
        raise FileError(
            path,
            f"is no LoRA of this model: entries have other sizes than its layers: "
            f"{listed([_sizes(layer) for layer in wrong])}.{told}",
            remedy=OTHER_LORA,
        )


def _weights(layer: Layer) -> list[TensorRef]:
    return [ref for what, ref in layer.entries.items() if what != ALPHA]


def _fits(layer: Layer) -> bool:
    bias, alpha = layer.entries.get(BIAS), layer.entries.get(ALPHA)
    if bias is not None and not (layer.place.bias and bare(bias.shape) == layer.place.shape[:1]):
        return False
    if alpha is not None and alpha.numel != 1:
        return False
    return UP not in layer.entries or _rank(layer.place, layer.entries[UP], layer.entries[DOWN]) is not None


def _rank(place: Place, up: TensorRef, down: TensorRef) -> int | None:
    """The rank of a pair that fits a place, None where it doesn't."""
    if len(place.shape) < 2 or not up.shape or not down.shape or not up.numel or not down.numel:
        return None
    shape = tuple(reversed(place.shape)) if place.is_embedding else place.shape
    rank = down.shape[0]
    if bare(down.shape) == bare((rank, *shape[1:])) and bare(up.shape) == bare((shape[0], rank)):
        return rank
    if _is_folded(place, down):
        size = shape[2]
        folded = (rank // size * size, shape[1] * size), (shape[0] * size, rank // size * size)
        return rank // size if (down.shape, up.shape) == folded else None
    return None


def _is_folded(place: Place, down: TensorRef) -> bool:
    return place.is_kernel and len(down.shape) == 2


def _made_for(layer: Layer) -> str:
    down = layer.entries.get(DOWN)
    reads_text = layer.place.module.endswith(("attn2.to_k", "attn2.to_v")) and down is not None
    return _WIDTHS.get(down.shape[1], "") if reads_text and down is not None and len(down.shape) > 1 else ""


def _sizes(layer: Layer) -> str:
    sizes = ", ".join(f"{what} {dimensions(ref.shape)}" for what, ref in layer.entries.items() if what != ALPHA)
    return f"{layer.place.module} ({sizes} for {dimensions(layer.place.shape)})"


def _piece(layer: Layer, *, scale: Mapping[str, Any]) -> Piece:
    place, up, down = layer.place, layer.entries[UP], layer.entries[DOWN]
    rank = _rank(place, up, down)
    assert rank is not None
    alpha = layer.entries.get(ALPHA)
    number = _number(alpha) if alpha is not None else _of_layer(scale.get("alpha_pattern"), place.module)
    if number is None:
        number = scale.get("lora_alpha")
    divisor = math.sqrt(rank) if scale.get("use_rslora") else rank
    return Piece(place, up, down, 1.0 if number is None else float(number) / divisor, _is_folded(place, down))


def _scales(path: Path) -> Mapping[str, Any]:
    """PEFT's settings beside an `adapter_model`; without them the products count in full, as the published ones do.

    Raises:
        FileError: it's another kind of adapter, or the settings aren't PEFT's.
    """
    config = path.with_name(PEFT_CONFIG)
    if path.stem != _PEFT_STEM or not config.exists():
        return {}
    document = read_json(config)
    if document.get("peft_type", "LORA") != "LORA" or document.get("use_dora"):
        kind = "DORA" if document.get("use_dora") else str(document.get("peft_type"))[:40]
        raise FileError(config, f"says that this is no LoRA, but {kind}.", remedy=OTHER_LORA)
    numbers = [document.get("lora_alpha", 1), *_pattern(document.get("alpha_pattern")).values()]
    if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
        raise FileError(config, "has an alpha that is no number.", remedy="Download it again.")
    return document


def _pattern(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _of_layer(pattern: Any, module: str) -> Any:
    """The number that PEFT's pattern gives a layer: keys are ends of its name."""
    for key, number in _pattern(pattern).items():
        if module == key or module.endswith(f".{key}"):
            return number
    return None


def _number(ref: TensorRef) -> float:
    value = torch.empty(1)
    read_into(value, ref)
    return float(value)


def _matrix(ref: TensorRef, *, folded: bool, device: torch.device | str) -> Tensor:
    value = torch.empty(ref.numel)
    read_into(value, ref)
    return value.view(ref.shape).flatten(1).to(device)


# The layers that MCM is trained on: all matrices and image kernels but the timestep's and the first and last.
_NOT_MCM = ("conv_in", "conv_out", "time_embedding.")


def _kind(pieces: Sequence[Piece], config: ModelConfig) -> Kind | None:
    """Which published LoRA it is, told from the set of its layers."""
    modules = {piece.place.module for piece in pieces if piece.place.part is Part.UNET}
    if GUIDANCE in modules:
        return Kind.T2V_TURBO
    every = places_of(config).in_order[Part.UNET]
    mcm = {
        place.module for place in every if not place.module.startswith(_NOT_MCM) and ".temp_convs." not in place.module
    }
    return Kind.MCM if modules == mcm else None


def _state(path: Path, missing: tuple[int, int] | None = None) -> tuple[int, int]:
    """Size and time of a file, by which a changed one is told."""
    if missing is not None and not path.exists():
        return missing
    with opened(path):
        state = path.stat()
    return state.st_size, state.st_mtime_ns
