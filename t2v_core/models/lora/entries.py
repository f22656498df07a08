"""The entries of a LoRA's file: which layer each belongs to and what it is there, however the file spells it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from t2v_core.models.architectures import recognise
from t2v_core.models.lora.places import GUIDANCE, Place, Places
from t2v_core.models.matching import listed
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.tensors import FileError, TensorRef
from t2v_core.models.weights_file import read_list, read_weights

UP, DOWN, ALPHA, BIAS = "up", "down", "alpha", "bias"
OTHER_LORA = "Use a LoRA that was trained on ModelScope's text-to-video 1.7B or on a fine-tune of it."

_ENTRY = re.compile(
    r"(?P<layer>.+?)(?:\.lora_(?P<letter>[AB])(?:\.\w+){0,2}"
    r"|[._]lora(?:_linear_layer)?[._](?P<half>up|down)(?:\.weight)?"
    r"|(?:[._]lora)?\.(?P<other>alpha|bias))"
)
_NUMBERED = re.compile(r"(?P<part>unet|text_encoder):(?P<index>\d{1,6}):(?P<half>up|down)")
_PREFIXES = (
    "base_model.model.", "module.", "unet.", "text_encoder.", "model.diffusion_model.", "diffusion_model.",
    "cond_stage_model.model.", "transformer.text_model.", "lora_unet_", "lora_te_",
)  # fmt: skip
_PARTS = {"unet": Part.UNET, "text_encoder": Part.TEXT}

# What names tell of other models and of other kinds of change.
_FOREIGN = (
    ("hada_", "It is a LoHa, not a LoRA."),
    ("lokr_", "It is a LoKr, not a LoRA."),
    ("dora_scale", "It is a DoRA, not a LoRA."),
    ("lora_magnitude_vector", "It is a DoRA, not a LoRA."),
    ("motion_modules", "It was made for AnimateDiff."),
    ("lora_te1_", "It was made for SDXL."),
    ("double_blocks", "It was made for FLUX."),
    ("init_attn", "It was made for VideoCrafter."),
)


@dataclass(slots=True)
class Layer:
    """What a file says about one place, by kind."""

    place: Place
    entries: dict[str, TensorRef] = field(default_factory=dict)


def layers_of(path: Path, places: Places) -> list[Layer]:
    """Every layer that a LoRA changes, with its entries.

    Raises:
        FileError: it holds no LoRA, or one with layers that the model hasn't.
    """
    nameless = read_list(path)
    if nameless:
        return _in_order(path, nameless, places, part=_part_of(path))
    tensors = read_weights(path)
    if any(_NUMBERED.fullmatch(name) for name in tensors):
        return list(_numbered(path, tensors, places))
    return _named(path, tensors, places)


def _named(path: Path, tensors: Mapping[str, TensorRef], places: Places) -> list[Layer]:
    layers: dict[tuple[Part, str], Layer] = {}
    unknown: dict[str, None] = {}
    matches = {name: _ENTRY.fullmatch(name) for name in tensors}
    if not any(match and (match["letter"] or match["half"]) for match in matches.values()):
        raise _no_lora(path, tensors)
    for name, tensor in tensors.items():
        match = matches[name]
        place = places.by_name.get(_layer(match["layer"])) if match else None
        if match is None or place is None:
            if match is None or not _is_unused(match["layer"], places):
                unknown[match["layer"] if match else name] = None
            continue
        what = match["half"] or match["other"] or {"A": DOWN, "B": UP}[match["letter"]]
        layer = layers.setdefault((place.part, place.module), Layer(place))
        if layer.entries.setdefault(what, tensor) is not tensor:
            raise FileError(path, f"gives {place.module} twice, as {name[:120]} too.", remedy="Get it from its author.")
    if unknown:
        told = next((f" {words}" for mark, words in _FOREIGN if any(mark in name for name in tensors)), "")
        raise FileError(
            path,
            f"is no LoRA of this model, for it changes layers that the model hasn't: {listed(list(unknown))}.{told}",
            remedy=OTHER_LORA,
        )
    return list(layers.values())


def _layer(name: str) -> str:
    """A layer's name without what files put around it."""
    before = ""
    while name != before:
        before = name
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
    return name.replace(".processor.", ".").removesuffix("_lora")


def _is_unused(name: str, places: Places) -> bool:
    """Whether it's of the text tower's last layer, whose output the model never uses."""
    match = re.search(r"(?:resblocks|encoder[._]layers)[._](\d{1,3})[._]", name)
    used = sum(place.module.endswith("fc1") for place in places.in_order[Part.TEXT])
    return match is not None and int(match[1]) == used


def _numbered(path: Path, tensors: Mapping[str, TensorRef], places: Places) -> Iterator[Layer]:
    """`unet:0:up`, `unet:0:down`, … as cloneofsimo's trainer writes into safetensors."""
    found: dict[str, dict[tuple[int, str], TensorRef]] = {}
    unknown = []
    for name, tensor in tensors.items():
        match = _NUMBERED.fullmatch(name)
        if match is None:
            unknown.append(name)
        else:
            found.setdefault(match["part"], {})[int(match["index"]), match["half"]] = tensor
    if unknown:
        raise FileError(path, f"has unexpected entries: {listed(unknown)}.", remedy=OTHER_LORA)
    for part, halves in found.items():
        keys = [(index, half) for index in range(len(halves) // 2) for half in (UP, DOWN)]
        if set(keys) != halves.keys():
            raise FileError(path, f"lacks some of its {part} entries.", remedy="Get it from its author again.")
        yield from _in_order(path, [halves[key] for key in keys], places, part=_PARTS[part])


def _part_of(path: Path) -> Part:
    """Which network a nameless list is for, which only its file's name can tell."""
    return Part.TEXT if "text_encoder" in path.stem else Part.UNET


def _in_order(path: Path, tensors: Sequence[TensorRef], places: Places, *, part: Part) -> list[Layer]:
    """A list of up, down, up, down … in the order of Diffusers' modules: all of them, or those that trainers choose."""
    pairs = list(zip(tensors[::2], tensors[1::2], strict=False))
    if len(tensors) % 2:
        raise FileError(
            path, f"is a list of {len(tensors)} tensors, not of pairs.", remedy="Get it from its author again."
        )
    for chosen in _choices(places.in_order[part]):
        if len(chosen) == len(pairs) and all(map(_may_belong, chosen, pairs)):
            return [Layer(place, {UP: up, DOWN: down}) for place, (up, down) in zip(chosen, pairs, strict=True)]
    raise FileError(
        path,
        f"is a list of {len(pairs)} pairs of tensors without names, whose sizes aren't those of the {part.value}'s "
        "layers in any known order.",
        remedy=OTHER_LORA,
    )


def _choices(places: Sequence[Place]) -> Iterator[list[Place]]:
    """Which layers a trainer may have chosen: all, all matrices, or the attention's."""
    for everything in (list(places), [place for place in places if place.tensor != GUIDANCE]):
        yield everything
        # Where Diffusers has a matrix, ours may be a kernel of one element.
        yield [place for place in everything if len(place.shape) < 4]
    yield [place for place in places if ".attn" in place.module or place.module.endswith("ff.net.0.proj")]
    yield [place for place in places if ".attn" in place.module]


def _may_belong(place: Place, pair: tuple[TensorRef, TensorRef]) -> bool:
    up, down = pair
    return bool(up.shape and down.shape) and up.shape[0] == place.shape[0] and down.shape[1:2] == place.shape[1:2]


def _no_lora(path: Path, tensors: Mapping[str, TensorRef]) -> FileError:
    told = next((words for mark, words in _FOREIGN if any(mark in name for name in tensors)), "")
    kind = recognise(tensors)
    if told:
        return FileError(path, f"can't be used. {told}", remedy=OTHER_LORA)
    if kind is not None and "LoRA" not in kind:
        return FileError(path, f"holds {kind}, not a LoRA.", remedy="Put a LoRA's file in its place.")
    examples = ", ".join(name[:120] for name in itertools.islice(tensors, 3))
    return FileError(path, f"holds no LoRA of this model: its tensors are called {examples} ...", remedy=OTHER_LORA)
