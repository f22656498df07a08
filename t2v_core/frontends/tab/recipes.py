"""Recipes back into the fields: an infotext becomes an update of every component, and a file gives its infotext."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from t2v_core.errors import ModelNotFoundError, UnreadableFileError
from t2v_core.frontends.tab.gradio_versions import unchanged, update
from t2v_core.host import Host
from t2v_core.infotext import ParsedInfotext, parse_infotext
from t2v_core.media.reading import read_metadata
from t2v_core.models.catalogue import find_model
from t2v_core.rendering.input_notes import changed_inputs
from t2v_core.request import FIELDS
from t2v_core.service import CHOICES
from t2v_core.speed import EXACT

PICTURES = (".png", ".webp", ".gif", ".jpg", ".jpeg")
ALWAYS = {"count": 1, "speed": EXACT}
"""What every recipe says without words: it makes one clip, and names each shortcut that was taken."""


def updates(infotext: str, models_folders: Sequence[Path]) -> dict[str, Any]:
    """An update of each field, by name: what the recipe says, else the field's default.

    A text without a recipe changes the prompts alone.
    """
    recipe = parse_infotext(infotext)
    values = {name: value for name, value in recipe.values.items() if value in CHOICES.get(name, (value,))}
    if not _is_recipe(recipe):
        return {name: update(value=values[name]) if name in values else unchanged() for name in FIELDS}
    if model := _model_of(recipe, models_folders):
        values["model"] = model
    return {name: _update(name, values) for name in FIELDS}


def changed_files(infotext: str, host: Host) -> list[str]:
    """A sentence for each file that the recipe names and that is gone, or isn't what it was."""
    recipe = parse_infotext(infotext)
    return changed_inputs(recipe.values, recipe.extras, host.input_folders) if _is_recipe(recipe) else []


def recipe_in(path: Path) -> str:
    """The infotext in a video, in a picture of this program or of the WebUI, or in a text file.

    Raises:
        UnreadableFileError: it can't be read, or there is none in it.
    """
    text = _picture_text(path) if path.suffix.lower() in PICTURES else read_metadata(path)
    if not text:
        raise UnreadableFileError(
            f"{path.name} carries no recipe.", remedy="Sites that take uploads often remove it: use the original file."
        )
    return text


def _picture_text(path: Path) -> str | None:
    try:
        with Image.open(path) as picture:
            info: Mapping[Any, Any] = picture.info
            comment = picture.getexif().get_ifd(_EXIF).get(_USER_COMMENT)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableFileError(f"{path.name} isn't a picture that can be read.") from error
    for text in (info.get("parameters"), _decoded(comment), info.get("comment")):
        if text:
            return text.decode("utf-8", errors="replace") if isinstance(text, bytes) else str(text)
    return read_metadata(path) if path.suffix.lower() == ".gif" else None


_EXIF, _USER_COMMENT = 0x8769, 0x9286


def _decoded(comment: Any) -> str:
    """Exif's user comment, whose first eight bytes name its encoding."""
    if not isinstance(comment, bytes):
        return comment or ""
    encoding, text = comment[:8].rstrip(b"\0"), comment[8:]
    return text.decode("utf-16-be" if encoding == b"UNICODE" else "utf-8", errors="replace").strip("\0")


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


def _update(name: str, values: Mapping[str, Any]) -> Any:
    field = FIELDS[name]
    if name in values:
        return update(value=values[name])
    if name in ALWAYS:
        return update(value=ALWAYS[name])
    if not field.spec.infotext:
        return unchanged()
    # None is an empty dropdown, an empty text an empty box.
    return update(value="" if field.default is None and name not in CHOICES else field.default)
