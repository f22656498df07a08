"""Presets: the tab's fields under a name, each a JSON file in the user's data folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from t2v_core.errors import OutputError, UnreadableFileError
from t2v_core.fields import problems_in
from t2v_core.frontends.tab.about import OF_THE_MODEL
from t2v_core.frontends.tab.components import request_of, shown
from t2v_core.frontends.tab.gradio_versions import keep_out_of_ui_config, script, unchanged, update
from t2v_core.frontends.tab.guarding import guarded
from t2v_core.frontends.tab.surroundings import TAB_ID, Surroundings
from t2v_core.media.naming import safe_name
from t2v_core.models.hashing import replace_text
from t2v_core.request import FIELDS
from t2v_core.service import CHOICES

SUFFIX = ".json"
LARGEST = 2**20


def names(folder: Path) -> list[str]:
    """The presets that are there, in alphabetical order."""
    try:
        return sorted((path.stem for path in folder.glob(f"*{SUFFIX}") if path.is_file()), key=str.casefold)
    except OSError:
        return []


def save(folder: Path, name: str, values: Mapping[str, Any]) -> str:
    """Write the components' values as a preset, whole or not at all, over one of the same name; its name on the disk.

    Raises:
        RequestError: a value is wrong.
        OutputError: there is no name, or the file can't be written.
    """
    if not name.strip():
        raise OutputError("The preset has no name.", remedy="Type one into the field, then save.")
    path = _path(folder, name)
    text = json.dumps(request_of(values).to_dict(), ensure_ascii=False, indent=2)
    try:
        replace_text(path, text)
    except OSError as error:
        raise OutputError(f"The preset can't be written to {path}: {error.strerror}.") from error
    return path.stem


def load(folder: Path, name: str) -> dict[str, Any]:
    """A preset's values by field; what this version doesn't know, or what can't be a value any more, is left out.

    A field that can be left open on the page, and that it says nothing of, was.

    Raises:
        UnreadableFileError: there is no such preset, or its file is none.
    """
    path = _path(folder, name)
    try:
        values = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size <= LARGEST else None
    except FileNotFoundError as error:
        raise UnreadableFileError(
            f"There is no preset {name!r}." if name else "No preset is chosen.",
            remedy=f"Known: {', '.join(known)}." if (known := names(folder)) else "Type a name and save one first.",
        ) from error
    except (OSError, ValueError) as error:
        raise UnreadableFileError(f"The preset {path} can't be read: {error}.") from error
    if not isinstance(values, dict):
        raise UnreadableFileError(f"{path} is no preset.")
    wrong = {problem.field for problem in problems_in(values, FIELDS, CHOICES)}
    left_open = {name: None for name, field in FIELDS.items() if field.optional and name not in OF_THE_MODEL}
    return {field: value for field, value in {**left_open, **values}.items() if field not in wrong}


def delete(folder: Path, name: str) -> None:
    """Remove a preset; nothing, if there is none of that name.

    Raises:
        OutputError: it can't be removed.
    """
    try:
        _path(folder, name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"The preset {name!r} can't be deleted: {error.strerror}.") from error


def _path(folder: Path, name: str) -> Path:
    """Names are for files in this folder alone, whatever a page says."""
    return folder / f"{safe_name(name.strip())}{SUFFIX}"


def panel(surroundings: Surroundings, folder: Path) -> dict[str, Any]:
    """The field with the names and its three buttons."""
    made: dict[str, Any] = {}
    with surroundings.row():
        made["preset_name"] = gr.Dropdown(
            names(folder), value=None, allow_custom_value=True, label="Preset", scale=4, elem_id=f"{TAB_ID}_preset_name"
        )
        for part, symbol, tooltip in (
            ("load_preset", "\u2705", "Fill the fields with this preset"),
            ("save_preset", "\U0001f4be", "Save the fields under this name"),
            ("delete_preset", "\U0001f5d1\ufe0f", "Delete this preset"),
        ):
            made[part] = surroundings.tool_button(symbol, elem_id=f"{TAB_ID}_{part}", tooltip=tooltip)
    keep_out_of_ui_config(made["preset_name"])
    return made


def connect(folder: Path, *, fields: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    """Give the panel's buttons their functions."""
    preset, messages = parts["preset_name"], parts["messages"]

    def on_save(name: str, *values: Any) -> list[Any]:
        saved = save(folder, name or "", dict(zip(fields, values, strict=True)))
        return [update(choices=names(folder), value=saved)]

    def on_load(name: str) -> list[Any]:
        values = load(folder, name or "")
        return [update(value=shown(field, values[field])) if field in values else unchanged() for field in fields]

    def on_delete(name: str) -> list[Any]:
        delete(folder, name or "")
        return [update(choices=names(folder), value=None)]

    def on(button: str, function: Any, *, inputs: list[Any], outputs: list[Any]) -> Any:
        return parts[button].click(
            fn=guarded(function, outputs=len(outputs)),
            inputs=inputs,
            outputs=[*outputs, messages],
            show_progress=False,
        )

    everything = list(fields.values())
    on("save_preset", on_save, inputs=[preset, *everything], outputs=[preset])
    on("delete_preset", on_delete, inputs=[preset], outputs=[preset])
    loaded = on("load_preset", on_load, inputs=[preset], outputs=everything)
    loaded.then(fn=None, **script("txt2video_filled"), inputs=[], outputs=[])
