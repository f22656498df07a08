"""A request's LoRAs: looked up and checked before any work, and named in the infotext."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from t2v_core.models.hashing import hash_of
from t2v_core.models.layouts import ModelFolder
from t2v_core.models.lora.applied import Dose
from t2v_core.models.lora.file import read_lora
from t2v_core.models.lora.find import LoraFile
from t2v_core.models.lora.wanted import FIELD, Wanted, parse, take_from_prompt, written
from t2v_core.rendering.distilled import DISTILLATIONS, Distillation
from t2v_core.rendering.number_formats import FP8
from t2v_core.request import GenerationRequest, problem

NOTE = "LoRA hashes"
"""The infotext's key."""

Find = Callable[[str], LoraFile]


@dataclass(frozen=True, slots=True)
class Loras:
    """The LoRAs of a request, ready to be applied; `names` go with `doses`."""

    names: tuple[str, ...] = ()
    doses: tuple[Dose, ...] = ()

    @property
    def distillation(self) -> Distillation | None:
        """How the first distilled one among them wants to be sampled."""
        kinds = (dose.lora.kind for dose in self.doses if dose.weight)
        return next((DISTILLATIONS[kind] for kind in kinds if kind is not None), None)

    def notes(self) -> dict[str, str]:
        """Which files were used, for the infotext: each name with the first ten digits of its SHA-256."""
        if not self.doses:
            return {}
        hashes = (hash_of((dose.lora.path,)) for dose in self.doses)
        return {NOTE: ", ".join(f"{name}: {digest}" for name, digest in zip(self.names, hashes, strict=True))}


NONE = Loras()


def loras_of(request: GenerationRequest, folder: ModelFolder, find: Find) -> Loras:
    """Look up what a request's field names.

    Raises:
        RequestError: a name that there isn't.
        WeightsError: a file that isn't a LoRA of this model.
    """
    wanted = parse(request.lora)
    if not wanted:
        return NONE
    files = [find(each.name) for each in wanted]
    doses = [Dose(read_lora(file.path, folder.config), each.weight) for file, each in zip(files, wanted, strict=True)]
    return Loras(tuple(file.name for file in files), tuple(doses))


def check_precision(request: GenerationRequest, loras: Loras) -> None:
    """Raise `RequestError` for eight-bit weights: what a LoRA adds would be lost in their rounding."""
    if loras.doses and request.precision == FP8:
        raise problem(FIELD, f"LoRAs don't go with Precision {FP8}: choose fp16, bf16 or fp32, or leave the LoRA out.")


def with_loras_named(request: GenerationRequest, find: Find) -> GenerationRequest:
    """The request with its prompt's LoRAs moved into the field, and all called by the names they have here.

    Raises:
        RequestError: as `loras_of`.
    """
    request = take_from_prompt(request)
    wanted = parse(request.lora)
    if not wanted:
        return request
    named = [Wanted(find(each.name).name, each.weight) for each in wanted]
    return dataclasses.replace(request, lora=written(named))
