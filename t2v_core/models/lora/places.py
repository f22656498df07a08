"""Where a LoRA's entries belong: every matrix and kernel of the networks under all names that files give it.

Nameless files, lists of tensors, follow the order of Diffusers' modules; it's made from our own networks' key maps.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from t2v_core.models.loading import shapes_of
from t2v_core.models.modelscope.checkpoint import Part, spellings
from t2v_core.models.modelscope.config import ModelConfig, TextConfig, UNetConfig

GUIDANCE_WIDTH = 256
GUIDANCE = "time_embedding.cond_proj"
"""The projection of the guidance scale's embedding, which networks distilled with guidance have and the base hasn't."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A layer's weight that can be changed.

    `tensor` is our network's name, or `GUIDANCE` for what it hasn't; `rows` are those of it that are meant, all if
    None; `shape` is theirs. `module` is Diffusers' name of the layer, `bias` our name of its bias, "" without one.
    """

    part: Part
    tensor: str
    module: str
    shape: Shape
    rows: tuple[int, int] | None = None
    bias: str = ""

    @property
    def is_embedding(self) -> bool:
        """Whether it's a table of vectors, whose LoRAs are turned around."""
        return self.tensor == "token_embedding.weight"

    @property
    def is_kernel(self) -> bool:
        """Whether it's a convolution's, of more than one element."""
        return len(self.shape) > 2 and self.shape[2] > 1

    @property
    def is_over_time(self) -> bool:
        """Whether it's a convolution over frames."""
        return len(self.shape) == 5


@dataclass(frozen=True, slots=True)
class Places:
    """All places of a model by every name that a file may give them, and each part's matrices in Diffusers' order."""

    by_name: Mapping[str, Place]
    in_order: Mapping[Part, tuple[Place, ...]]


def places_of(config: ModelConfig) -> Places:
    """The places of the UNet and of the text tower of a model of these sizes."""
    return _places_of(config.unet, config.text)


@functools.lru_cache(maxsize=4)
def _places_of(unet: UNetConfig, text: TextConfig) -> Places:
    config = ModelConfig(unet=unet, text=text)
    by_name: dict[str, Place] = {}
    in_order: dict[Part, tuple[Place, ...]] = {}
    for part in (Part.UNET, Part.TEXT):
        named = list(_part_places(part, config))
        matrices = [place for _, place in named if len(place.shape) > 1 and not place.is_embedding]
        in_order[part] = tuple(sorted(matrices, key=_order))
        for names, place in named:
            for name in names:
                assert by_name.setdefault(name, place) is place, f"{name} names two layers"
    return Places(by_name, in_order)


def _part_places(part: Part, config: ModelConfig) -> Iterator[tuple[set[str], Place]]:
    """Each place with its names."""
    theirs = next(row.sources for row in spellings(part, config) if row.name in ("Diffusers", "transformers"))
    shapes = shapes_of(part, config)
    for name, shape in shapes.items():
        if not name.endswith("weight"):
            continue
        sources = theirs(name)
        step = shape[0] // len(sources)
        for index, source in enumerate(sources):
            rows = (index * step, (index + 1) * step) if len(sources) > 1 else None
            module = source.removesuffix(".weight")
            bias = "" if rows else f"{name.removesuffix('weight')}bias"
            place = Place(part, name, module, (step, *shape[1:]), rows, bias if bias in shapes else "")
            ours = name.removesuffix("in_proj_weight") + module[-6:] if rows else name.removesuffix(".weight")
            yield _all_spellings(part, ours, module), place
    if part is Part.UNET:
        shape = (config.unet.dim, GUIDANCE_WIDTH)
        yield _all_spellings(part, GUIDANCE, GUIDANCE), Place(part, GUIDANCE, GUIDANCE, shape)


def _all_spellings(part: Part, ours: str, theirs: str) -> set[str]:
    """A layer's names in files: our own, Diffusers', and either with underscores alone, as kohya's trainer writes."""
    names = {ours, theirs, theirs.removesuffix(".0") if theirs.endswith(".to_out.0") else theirs}
    if part is Part.TEXT:
        names |= {f"text_model.{theirs}", ours.removeprefix("transformer.")}
    return names | {name.replace(".", "_") for name in names}


# The order in which Diffusers' and transformers' networks make their parts.
_MADE = {name: index for index, name in enumerate((
    "conv_in", "time_embedding", "transformer_in", "down_blocks", "up_blocks", "mid_block", "conv_out",
    "linear_1", "cond_proj", "linear_2",
    "resnets", "temp_convs", "attentions", "temp_attentions", "downsamplers", "upsamplers",
    "conv1", "time_emb_proj", "conv2", "conv_shortcut", "conv3", "conv4",
    "proj_in", "transformer_blocks", "proj_out",
    "attn1", "attn2", "ff", "to_q", "to_k", "to_v", "to_out",
    "embeddings", "encoder", "self_attn", "k_proj", "v_proj", "q_proj", "out_proj", "mlp", "fc1", "fc2",
))}  # fmt: skip


def _order(place: Place) -> tuple[int, ...]:
    return tuple(int(name) if name.isdecimal() else _MADE.get(name, -1) for name in place.module.split("."))
