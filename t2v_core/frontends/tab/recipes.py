"""Recipes back into the fields: an infotext becomes an update of every component, and a file gives its infotext."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t2v_core.errors import ModelNotFoundError, UnreadableFileError
from t2v_core.frontends.tab.components import shown
from t2v_core.frontends.tab.gradio_versions import unchanged, update
from t2v_core.host import Host
from t2v_core.infotext import ParsedInfotext, parse_infotext
from t2v_core.media.reading import read_metadata
from t2v_core.models.catalogue import find_model
from t2v_core.rendering.input_notes import changed_inputs
from t2v_core.request import FIELDS
from t2v_core.service import CHOICES
from t2v_core.speed import EXACT

ALWAYS = {"count": 1, "speed": EXACT, "pick": ""}
"""What every recipe says without words: it makes one clip or sheet, and names each shortcut that was taken."""


def updates(infotext: str, models_folders: Sequence[Path]) -> dict[str, Any]:
    """An update of each field, by name: what the recipe says, else the field's default.

    A text without a recipe changes the prompts alone.
    """
    values = values_of(infotext, models_folders)
    return {name: update(value=shown(name, values[name])) if name in values else unchanged() for name in FIELDS}


def values_of(infotext: str, models_folders: Sequence[Path]) -> dict[str, Any]:
    """What a recipe says, by field, and the default of each field of which it would have said another value.

    Of a text without a recipe the prompts alone.
    """
    recipe = parse_infotext(infotext)
    values = {name: value for name, value in recipe.values.items() if value in CHOICES.get(name, (value,))}
    if not _is_recipe(recipe):
        return values
    if model := _model_of(recipe, models_folders):
        values["model"] = model
    defaults = {name: field.default for name, field in FIELDS.items() if field.spec.infotext}
    return {**defaults, **ALWAYS, **values}


def changed_files(infotext: str, host: Host) -> list[str]:
    """A sentence for each file that the recipe names and that is gone, or isn't what it was."""
    recipe = parse_infotext(infotext)
    return changed_inputs(recipe.values, recipe.extras, host.input_folders) if _is_recipe(recipe) else []


def recipe_in(path: Path) -> str:
    """The infotext in a video, in a picture of this program or of the WebUI, or in a text file.

    Raises:
        UnreadableFileError: it can't be read, or there is none in it.
    """
    text = read_metadata(path)
    if not text:
        raise UnreadableFileError(
            f"{path.name} carries no recipe.", remedy="Sites that take uploads often remove it: use the original file."
        )
    return text


def _is_recipe(recipe: ParsedInfotext) -> bool:
    return bool(recipe.values.keys() - {"prompt", "negative_prompt"} or recipe.model)


def _model_of(recipe: ParsedInfotext, models_folders: Sequence[Path]) -> str:
    """The name of the recipe's model if it is here."""
    if recipe.model is None:
        return ""
    try:
        return find_model(recipe.model.name, models_folders, paths=False).name
    except ModelNotFoundError:
        return ""
