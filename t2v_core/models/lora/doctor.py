"""Examines a LoRA's file as a run would read it: what it is, whether it fits a model that is here, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from t2v_core.errors import WeightsError
from t2v_core.models.doctor import Finding, Report, Severity, check_sums
from t2v_core.models.layouts import ModelFolder
from t2v_core.models.lora.file import Lora, read_lora
from t2v_core.models.lora.find import LoraFile
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import ModelConfig

LAYOUT = "LoRA"


def examine_lora(lora: LoraFile, models: Sequence[ModelFolder], *, thorough: bool = False) -> Report:
    """Judge a LoRA for the 1.7B model, and for the models that are here.

    Args:
        lora: what `find.find` found.
        models: what `catalogue.find_all` found.
        thorough: read the file from end to end, and check the sums that torch's files carry.
    """
    findings = []
    try:
        fitting = _fitting(lora, models)
        if thorough:
            check_sums(lora.path)
    except WeightsError as error:
        findings.append(Finding(lora.path, Severity.ERROR, error.problem, error.remedy))
    else:
        findings.append(Finding(lora.path, Severity.OK, f"is whole: {what(fitting)}."))
    return Report(lora.name, lora.path.parent, LAYOUT, tuple(findings))


def what(lora: Lora) -> str:
    """What a LoRA is in a few words: "MCM, 482 layers of the UNet, rank 64"."""
    counts = [(part, len({piece.place for piece in lora.pieces if piece.place.part is part})) for part in Part]
    parts = " and ".join(f"{count} layers of the {part.value}" for part, count in counts if count)
    kind = f"{lora.kind.value}, " if lora.kind else ""
    return f"{kind}{parts}, rank {lora.rank}"


def _fitting(lora: LoraFile, models: Sequence[ModelFolder]) -> Lora:
    """The LoRA read for the first size of model that it fits, the 1.7B one's first, whose error counts."""
    try:
        return read_lora(lora.path, ModelConfig())
    except WeightsError:
        for config in {model.config for model in models if not model.problems}:
            try:
                return read_lora(lora.path, config)
            except WeightsError:
                continue
        raise
