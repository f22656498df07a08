"""Requests from what was typed, from a file of prompts, and from a video's own recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t2v_core.errors import FieldProblem, RequestError, UnreadableFileError
from t2v_core.grid.axes import axes_text
from t2v_core.infotext import ParsedInfotext, parse_infotext
from t2v_core.request import FIELDS, GenerationRequest
from t2v_core.service import CHOICES

LARGEST_PROMPTS_FILE = 16 * 2**20


def requests_from(typed: Mapping[str, Any], *, prompts: Path | None, source: Path | None) -> list[GenerationRequest]:
    """All requests of one command; what was typed goes before what a file says.

    Raises:
        RequestError: with every problem of every request.
        UnreadableFileError: the file can't be read or isn't what it should be.
    """
    if prompts is not None:
        wishes = {f"{prompts.name}, {place}: ": values for place, values in _wishes_in(prompts).items()}
    elif source is not None:
        wishes = {"": _recipe_values(source)}
    else:
        wishes = {"": {}}
    if not any("prompt" in wish for wish in [typed, *wishes.values()]):
        raise RequestError(
            [FieldProblem("prompt", 'There is no prompt. Give one, as in: python -m t2v_core generate "a red ball"')]
        )
    requests, problems = [], []
    for place, values in wishes.items():
        try:
            requests.append(GenerationRequest.from_dict({**values, **typed}, choices=CHOICES))
        except RequestError as error:
            problems += [FieldProblem(problem.field, place + problem.message) for problem in error.problems]
    if problems:
        raise RequestError(problems)
    return requests


def read_recipe(path: Path) -> tuple[str, ParsedInfotext]:
    """The recipe that a video carries, as text and as what it says.

    Raises:
        UnreadableFileError: no video, or one without a recipe.
    """
    from t2v_core.media.reading import read_metadata

    text = read_metadata(path)
    if not text:
        raise UnreadableFileError(
            f"{path} carries no recipe.",
            remedy="Only files that txt2video or the WebUI wrote do, and sites that take uploads often remove it.",
        )
    return text, parse_infotext(text)


def _recipe_values(path: Path) -> dict[str, Any]:
    """The fields of a video's recipe, with the model that made it."""
    _, recipe = read_recipe(path)
    model = {"model": recipe.model.name} if recipe.model else {}
    return {**model, **recipe.values}


def _wishes_in(path: Path) -> dict[str, dict[str, Any]]:
    """The field values of each request in a file of prompts, by the place where it stands."""
    text = _read_text(path)
    if path.suffix.lower() != ".json":
        lines = {f"line {number}": line.strip() for number, line in enumerate(text.splitlines(), start=1)}
        wishes: dict[str, dict[str, Any]] = {place: {"prompt": line} for place, line in lines.items() if line}
    else:
        wishes = {f"request {number}": _texts(wish) for number, wish in enumerate(_json_list(text, path), start=1)}
    if not wishes:
        raise UnreadableFileError(f"{path} holds no prompts.", remedy="Write one prompt a line.")
    return wishes


def _json_list(text: str, path: Path) -> list[dict[str, Any]]:
    remedy = f'Write a list of requests, as in [{{"prompt": "a red ball", "seed": 1}}]. Fields: {", ".join(FIELDS)}.'
    try:
        document = json.loads(text)
    except ValueError as error:
        raise UnreadableFileError(f"{path} is not JSON: {error}.", remedy=remedy) from error
    if not isinstance(document, list) or not all(isinstance(wish, dict) for wish in document):
        raise UnreadableFileError(f"{path} is JSON, but no list of requests.", remedy=remedy)
    return document


def _texts(wish: dict[str, Any]) -> dict[str, Any]:
    """The wish with what JSON can say in a better way as the text that it is in a request."""
    written = dict(wish)
    over, pick = wish.get("over"), wish.get("pick")
    if isinstance(over, dict):
        written["over"] = axes_text(over)
    elif isinstance(over, list):
        written["over"] = "; ".join(map(str, over))
    if isinstance(pick, list):
        written["pick"] = ", ".join(map(str, pick))
    elif isinstance(pick, int) and not isinstance(pick, bool):
        written["pick"] = str(pick)
    return written


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_PROMPTS_FILE:
            raise UnreadableFileError(f"{path} is over {LARGEST_PROMPTS_FILE // 2**20} MiB.", remedy="Split it.")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"{path} is no UTF-8 text.", remedy="Save it as UTF-8.") from error
    except OSError as error:
        raise UnreadableFileError(f"{path} can't be read: {error.strerror}.") from error
