"""What the tab says about a model and a request before anything runs."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t2v_core.errors import RequestError, Txt2VideoError
from t2v_core.frontends.tab import pages
from t2v_core.frontends.tab.gradio_versions import unchanged, update
from t2v_core.models.catalogue import DEMO, DEMO_KNOWS, find_all, find_model
from t2v_core.models.known import KNOWN
from t2v_core.models.layouts import ModelFolder, native_size
from t2v_core.models.lora.find import LoraFile
from t2v_core.models.lora.find import find as find_lora
from t2v_core.models.lora.find import find_all as find_loras
from t2v_core.models.modelscope.tokenizer import CHUNK_TOKENS, END, chunks_of
from t2v_core.prompts.emphasis import phrases
from t2v_core.prompts.key_frames import Timing
from t2v_core.prompts.script import read_script
from t2v_core.request import GenerationRequest, ModelDefaults

OF_THE_MODEL = tuple(field.name for field in dataclasses.fields(ModelDefaults))
"""The fields for which a model has its own values."""

OF_THE_LORAS = ("sampler", "steps", "cfg_scale")
"""Those of them for which a LoRA may have others."""


def model_names(models_folders: Sequence[Path]) -> list[str]:
    """The names of all models that are there, the demo model always."""
    return [model.name for model in find_all(models_folders)]


def lora_choices(models_folders: Sequence[Path]) -> list[str]:
    """No LoRA, or one of those that are there; people type more than one, and weights."""
    return ["", *(lora.name for lora in find_loras(models_folders))]


def about_model(name: str, models_folders: Sequence[Path]) -> list[Any]:
    """The model's own values for the fields `OF_THE_MODEL`, and a line about it."""
    try:
        model = find_model(name, models_folders, paths=False)
    except Txt2VideoError as error:
        return [*(unchanged() for _ in OF_THE_MODEL), pages.problem(error)]
    return [*(update(value=getattr(model.config.defaults, field)) for field in OF_THE_MODEL), line_about(model)]


def of_loras(text: str, *, model: str, sampler: str, models_folders: Sequence[Path]) -> list[Any]:
    """The values for the fields `OF_THE_LORAS`: those of a distilled LoRA, and the model's again without one.

    Half-typed names change nothing.
    """
    from t2v_core.rendering.distilled import CONSISTENCY
    from t2v_core.rendering.loras import loras_of

    def find(name: str) -> LoraFile:
        return find_lora(name, models_folders, paths=False)

    try:
        folder = find_model(model, models_folders, paths=False)
        distillation = loras_of(GenerationRequest(lora=text or ""), folder, find).distillation
    except Txt2VideoError:
        return [unchanged() for _ in OF_THE_LORAS]
    if distillation is None and sampler != CONSISTENCY:
        return [unchanged() for _ in OF_THE_LORAS]
    values = distillation.over(folder.config.defaults) if distillation else folder.config.defaults
    return [update(value=getattr(values, field)) for field in OF_THE_LORAS]


def line_about(model: ModelFolder) -> str:
    """What the model makes, its licence, and what its files lack."""
    facts = [f"Made for {native_size(model.config.defaults)}"]
    if model.name == DEMO:
        facts.append(DEMO_KNOWS)
    elif model.known:
        facts.append(f"Licence: {model.known.licence}")
    text = html.escape(" · ".join(facts))
    problems = "".join(f"<p>{html.escape(str(problem))}</p>" for problem in model.problems)
    return f"<p>{text}</p>" + (pages.box(problems) if problems else "")


def native_choices(models: Sequence[ModelFolder]) -> list[str]:
    """The sizes that the models here and the published ones were made for, each once."""
    return list(_native(models))


def native_of(choice: str, models_folders: Sequence[Path]) -> list[Any]:
    """Width, height and frames of a choice of `native_choices`."""
    defaults = _native(find_all(models_folders)).get(choice)
    return [unchanged()] * 3 if defaults is None else [defaults.width, defaults.height, defaults.frames]


def _native(models: Sequence[ModelFolder]) -> dict[str, ModelDefaults]:
    defaults = [*(model.config.defaults for model in models), *(known.defaults for known in KNOWN)]
    return {native_size(each): each for each in defaults}


def token_count(prompt: str) -> str:
    """How many tokens a prompt has of the chunks that it fills, as the WebUI shows it: those of its longest text."""
    tokens, chunks = max(map(_length, _texts_in(prompt or "")))
    return f"<span class='gr-box gr-text-input'>{tokens}/{chunks * CHUNK_TOKENS}</span>"


def _texts_in(prompt: str) -> Sequence[str]:
    try:
        return read_script(prompt, "", Timing(frames=10**9, fps=1), steps=100).prompt.texts()
    except RequestError:  # a run says what is wrong
        return (prompt,)


def _length(text: str) -> tuple[int, int]:
    """Tokens with what fills up all chunks but the last, and chunks."""
    chunks = chunks_of(None if phrase.is_break else (phrase.text, phrase.weight) for phrase in phrases(text))
    return CHUNK_TOKENS * (len(chunks) - 1) + chunks[-1].tokens.index(END) - 1, len(chunks)
