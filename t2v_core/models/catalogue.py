"""The models on this machine: all folders that look like one, and the demo that ships with the program."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from t2v_core.errors import ModelNotFoundError
from t2v_core.models import FAMILIES
from t2v_core.models.known import TO_RECOMMEND
from t2v_core.models.layouts import ModelFolder, describe, looks_like_a_model

DEMO = "demo"
DEMO_KNOWS = 'It knows coloured shapes that move, as in "a red ball moving left on a black background".'
DEMO_FOLDER = Path(__file__).parents[1] / "demo"
FIRST = "t2v"
"""The folder that the WebUI's older text-to-video extension used, and that its users have."""

README = "readme.txt"
"""What says in an empty folder what goes there."""


def find_all(models_folders: Sequence[Path]) -> tuple[ModelFolder, ...]:
    """Every model in the folders, each folder's `t2v` first, the demo model last.

    Args:
        models_folders: folders whose subfolders are models. A missing one counts as empty. A folder in a subfolder is
            called "subfolder/folder". Of two models with one name the first counts.
    """
    models: dict[str, ModelFolder] = {}
    for collection in models_folders:
        for name, folder in _folders(collection):
            models.setdefault(name, _describe(folder, models_folders, collection=collection, name=name))
    models[DEMO] = describe(DEMO_FOLDER, name=DEMO)
    return tuple(models.values())


def find_model(name: str, models_folders: Sequence[Path], *, paths: bool = True) -> ModelFolder:
    """The model of that name (in any case of letters), or in that folder, or the first one if the name is empty.

    Args:
        name: a name as `find_all` gives it, its last part, or a path to a folder or to a file in it.
        models_folders: as in `find_all`.
        paths: whether a path is allowed; False where a stranger gives the name.

    Raises:
        ModelNotFoundError: listing what there is.
    """
    models = find_all(models_folders)
    if not name:
        return models[0]
    for matches in (_same, _same_last_part):
        for model in models:
            if matches(model.name, name):
                return model
    folder = _folder(name) if paths else None
    if folder is not None:
        known = next((model for model in models if model.folder == folder), None)
        return known or _describe(folder, models_folders, collection=None, name=folder.name)
    raise ModelNotFoundError(
        f"There is no model called {name!r}. There are: {', '.join(model.name for model in models)}.",
        remedy=f"Put its folder into one of {', '.join(map(str, models_folders)) or 'the models folders'}, "
        f"or name its folder. The 1.7B model: {TO_RECOMMEND}.",
    )


def boundary_of(collection: Path) -> Path:
    """The folder that a configuration.json in a collection can't point out of: `models`, around `models/ModelScope`."""
    names = {folder for family in FAMILIES.values() for folder in family.folders}
    return collection.parent if collection.name in names else collection


def is_empty(folder: Path) -> bool:
    """Whether nobody has put anything into a folder; the readme and hidden files don't count."""
    try:
        return all(name.lower() == README or name.startswith(".") for name in os.listdir(folder))
    except OSError:  # its own problem, which the doctor names
        return False


def _describe(folder: Path, models_folders: Sequence[Path], *, collection: Path | None, name: str) -> ModelFolder:
    if collection is None:
        absolute = Path.absolute(folder)
        inside = (place for place in models_folders if place.absolute() in (absolute, *absolute.parents))
        collection = next(inside, None)
    boundary = boundary_of(collection.absolute()) if collection else None
    lenders = [lender.absolute() for place in models_folders for lender in (place, *_subfolders(place))]
    return describe(folder, name=name, boundary=boundary, lenders=lenders)


def _folders(collection: Path) -> Iterator[tuple[str, Path]]:
    names = {folder for family in FAMILIES.values() for folder in family.folders}
    if looks_like_a_model(collection):
        yield collection.name, collection
    for folder in _subfolders(collection):
        if folder.name in names:
            continue  # a collection of its own
        if looks_like_a_model(folder) or (folder.name == FIRST and not is_empty(folder)):
            yield folder.name, folder
        for inner in _subfolders(folder):
            if looks_like_a_model(inner):
                yield f"{folder.name}/{inner.name}", inner


def _subfolders(folder: Path) -> list[Path]:
    try:
        folders = [entry for entry in folder.iterdir() if os.path.isdir(entry) and not entry.name.startswith(".")]
    except OSError:
        return []
    return sorted(folders, key=lambda entry: (entry.name != FIRST, entry.name.lower()))


def _folder(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        if path.is_file():
            path = path.parent
        return Path.absolute(path) if path.is_dir() else None
    except (OSError, ValueError, RuntimeError):
        return None


def _same(model: str, name: str) -> bool:
    return model.casefold() == name.casefold()


def _same_last_part(model: str, name: str) -> bool:
    return _same(model.rpartition("/")[2], name)
