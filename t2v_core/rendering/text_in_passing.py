"""Encodes prompts while the text tower is read: one of its layers after the other, each in the place of the one before.

On a processor the tower leaves once it has read the prompts. As a whole it would lie beside the UNet for a second, and
raise the peak of every run but the first. All prompts go through a layer before the next one is read.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from t2v_core.models.layouts import ModelFolder
from t2v_core.models.loading import Progress, assign, build, count_bytes, new_staging, plan, read_target
from t2v_core.models.matching import Target
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.models.modelscope.text_encoder import TextEncoder
from t2v_core.rendering.devices import kind_of
from t2v_core.rendering.measures import Measures
from t2v_core.rendering.number_formats import NumberFormat

Changed = Callable[[str, Tensor], None]
"""Changes a weight of that name in place, once it was read."""

_EMBEDDING, _LAYER, _NORM = "(embedding)", "transformer.resblocks.", "ln_final"
"""The stages of a tower; a layer's has its number behind it."""


def is_read_in_passing(rung: Measures, *, device: str) -> bool:
    """Whether a tower that isn't there is read again for each prompt, so that it needn't ever be there as a whole.

    A GPU's waits in main memory, from which it comes back much faster than from a disk.
    """
    return rung.text_leaves and kind_of(device) == "cpu"


def encoded_in_passing(
    folder: ModelFolder, prompts: Sequence[Tensor], *, numbers: NumberFormat, changed: Changed, progress: Progress
) -> list[Tensor]:
    """Token ids (b, n) of some prompts to features (b, n, d), to the bit as by a tower that is there.

    Args:
        folder: the model.
        prompts: what is encoded, each by itself.
        numbers: the format that weights have, and the one to compute in.
        changed: adds what LoRAs add.
        progress: told the bytes read and in all.

    Raises:
        WeightsError: as `models.loading.load` does.
    """
    tower, targets = _with_one_layer(folder.config, dtype=numbers.computes), plan(folder, Part.TEXT)
    states, staging, done, total = list(prompts), new_staging(), 0, count_bytes(targets)

    def read(target: Target, weight: Tensor) -> None:
        nonlocal done
        # By way of the format that weights have, which may be narrower than what is computed in.
        value = torch.empty_like(weight, dtype=numbers.stored) if numbers.is_widened else weight
        for count in read_target(value, target, staging=staging):
            done += count
            progress(done, total)
        changed(target.name, value)
        if value is not weight:
            weight.copy_(value)

    progress(done, total)
    for stage, some in itertools.groupby(targets, key=lambda target: _stage_of(target.name)):
        for target in some:
            read(target, _place_of(target.name, tower))
        work = _work_of(stage, tower)
        states = [work(state) for state in states]
        if stage == _EMBEDDING:
            del tower.token_embedding  # four times as large as a layer
    return states


def bytes_in_passing(weights: Mapping[str, Tensor], *, numbers: NumberFormat) -> int:
    """What the largest stage of a tower with these weights takes while it's read."""
    stages = itertools.groupby(weights.items(), key=lambda item: _stage_of(item[0]))
    held = max(sum(weight.numel() for _, weight in some) for _, some in stages) * numbers.computes.itemsize
    if not numbers.is_widened:
        return held
    return held + max(weight.numel() for weight in weights.values()) * numbers.stored.itemsize


def _with_one_layer(config: ModelConfig, *, dtype: torch.dtype) -> TextEncoder:
    """A tower of one layer, without memory for its weights."""
    smallest = dataclasses.replace(config, text=dataclasses.replace(config.text, layers=2))  # the last one goes unused
    tower = build(Part.TEXT, smallest).to(dtype).eval()
    assert isinstance(tower, TextEncoder)
    return tower


def _stage_of(name: str) -> str:
    """Which stage a weight belongs to; a tower's weights have an order in which no stage comes twice."""
    if name.startswith(_LAYER):
        return _LAYER + name.removeprefix(_LAYER).partition(".")[0]
    return _NORM if name.startswith(_NORM) else _EMBEDDING


def _place_of(name: str, tower: TextEncoder) -> Tensor:
    """Where a weight goes in a tower of one layer, which takes memory for it the first time."""
    stage = _stage_of(name)
    name = name.replace(stage, f"{_LAYER}0") if stage.startswith(_LAYER) else name
    weight = tower.get_parameter(name)
    if weight.is_meta:
        assign(tower, name, torch.empty(weight.shape, dtype=weight.dtype))
    return tower.get_parameter(name).data


def _work_of(stage: str, tower: TextEncoder) -> Callable[[Tensor], Tensor]:
    """What a stage does."""
    if stage == _EMBEDDING:
        return tower.embed
    return tower.ln_final if stage == _NORM else tower.transformer
