"""What can be made of a clip that is there: from what a button asks and the fields say to the fields of the next run.

The fields on the page stay as they are: what was made of an old clip doesn't linger in them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from t2v_core.errors import Txt2VideoError
from t2v_core.fields import names_in
from t2v_core.frontends.tab import recipes
from t2v_core.frontends.tab.shelf import Clip, Shelf
from t2v_core.media.source import source_facts
from t2v_core.request import FIELDS, RANDOM_SEED, problem

DRAFTS, CONTINUE, REFINE, PICK = "drafts", "continue", "refine", "pick"

USUAL_DRAFTS = 9
USUAL_REFINE = 2.0
"""What is made where the fields say nothing."""

_COMPARING = ("over", "drafts", "pick")
_GIVEN = tuple(name for name, field in FIELDS.items() if field.spec.group == "Source")
_SIZES = ("width", "height", "frames", "fps")
_OF_REFINING = tuple(name for name, field in FIELDS.items() if field.spec.group == "Refine")


def values_for(ask: str, values: Mapping[str, Any], shelf: Shelf, models_folders: Sequence[Path]) -> dict[str, Any]:
    """The values of all fields for what is asked: JSON of what to `do`, a clip's `key`, and what was `picked` of it.

    Raises:
        UnreadableFileError: no clip of that key is there.
        RequestError: nothing was picked.
    """
    asked = said_by_page(ask)
    what = asked.get("do")
    if what == DRAFTS:
        return drafts(values)
    clip = shelf.find(str(asked.get("key") or ""))
    if what == CONTINUE:
        return continued(values, clip)
    recipe = {**values, **recipes.values_of(clip.infotext, models_folders)}
    if what == REFINE:
        return refined(values, recipe, clip)
    return picked(recipe, str(asked.get("picked") or ""))


def drafts(values: Mapping[str, Any]) -> dict[str, Any]:
    """A sheet of drafts of what the fields say."""
    count = int(values.get("drafts") or 0) or USUAL_DRAFTS
    return {**values, **_plain(_COMPARING), "count": 1, "drafts": count}


def continued(values: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    """The clip made longer by as many frames as the fields say, at its own size and rate, in one file with it."""
    kept = {name: values[name] for name in ("continue_frames", "fit", "match_colors", "last_frame")}
    own = {**dict.fromkeys(_SIZES), "frames": values["frames"]}
    given = {**_plain(_GIVEN), **kept, "continue_from": str(film_of(clip)), "join": True}
    return {**values, **_plain(_COMPARING), **given, **own, "loop": False}


def refined(values: Mapping[str, Any], recipe: Mapping[str, Any], clip: Clip) -> dict[str, Any]:
    """The clip's own frames through the second pass alone, by its own recipe and the fields of the section Refine."""
    of_refining = {name: values[name] for name in (*_OF_REFINING, "upscaler")}
    of_refining["refine"] = float(values["refine"] or 0) or USUAL_REFINE
    given = {**_plain(_GIVEN), "source": str(film_of(clip)), "strength": 0.0}
    finished = {**_plain(("upscale", "ping_pong", "output_fps", "fill_in")), "count": 1}
    return {**recipe, **_plain(_COMPARING), **given, **dict.fromkeys(_SIZES), **finished, **of_refining}


def picked(recipe: Mapping[str, Any], numbers: str) -> dict[str, Any]:
    """The drafts of those numbers, in full."""
    if not names_in(numbers):
        raise problem("pick", "Pick a draft first: click those that you like.")
    if recipe.get("seed") in (None, RANDOM_SEED) or not recipe.get("drafts"):
        raise problem("pick", "This clip is no sheet of drafts.")
    return {**recipe, "over": "", "pick": numbers, "count": 1}


def film_of(clip: Clip) -> Path:
    """The clip's file that holds all of it; the others may be a single picture."""
    for path in clip.paths:
        try:
            if not source_facts(path).is_still:
                return path
        except Txt2VideoError:
            continue
    return clip.path


def _plain(names: Sequence[str]) -> dict[str, Any]:
    return {name: FIELDS[name].default for name in names}


def said_by_page(text: str) -> dict[str, Any]:
    """What the page says in JSON, which may be anything; nothing where it's no object."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
