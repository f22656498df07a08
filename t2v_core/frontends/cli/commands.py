"""What each command does; the heavy parts of the program are imported only by the command that needs them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2v_core.errors import Cancelled, ModelNotFoundError, RequestError, WeightsError
from t2v_core.hosts.standalone import StandaloneHost
from t2v_core.request import FIELDS, problem

if TYPE_CHECKING:
    from t2v_core.rendering.renderer import Renderer
    from t2v_core.request import GenerationRequest
    from t2v_core.run import Run

STOPPED = 130
"""The exit code of a run that the user stopped, whatever was kept."""

DRAFTS = 9
"""How many drafts there are if nobody says."""


def generate(options: argparse.Namespace) -> int:
    """Make videos; the exit code is 0 only if everything that was asked for was finished."""
    return _generate(options, _typed(options))


def grid(options: argparse.Namespace) -> int:
    """Make a clip for every combination of some fields' values, and the grid of them."""
    typed = _typed(options)
    if "over" not in typed and options.recipe is None and options.prompts is None:
        raise problem("over", 'A grid needs fields to go over, as in: --over steps=10,25 --over "seed=1-3"')
    return _generate(options, typed)


def draft(options: argparse.Namespace) -> int:
    """Make a sheet of drafts, or those in full that were picked from one; `--count` is how many drafts there are."""
    typed = _typed(options)
    if "count" in typed:
        typed["drafts"] = typed.pop("count")
    if typed.get("drafts") == 0:
        raise problem("drafts", "There must be one draft at least.")
    return _generate(options, typed, drafts=DRAFTS)


def _typed(options: argparse.Namespace) -> dict[str, Any]:
    """The fields that were typed; several axes of a grid are one text."""
    typed = {name: getattr(options, name) for name in FIELDS if hasattr(options, name)}
    if "over" in typed:
        typed["over"] = "; ".join(typed["over"])
    return typed


def _generate(options: argparse.Namespace, typed: Mapping[str, Any], *, drafts: int = 0) -> int:
    """Make what was asked; `drafts` is how many there are of each request that doesn't say it."""
    from t2v_core import service
    from t2v_core.frontends.cli.progress import ConsoleProgress, stopping_by_signal
    from t2v_core.frontends.cli.requests import requests_from
    from t2v_core.run import Run

    requests = requests_from(typed, prompts=options.prompts, source=options.recipe)
    if drafts:
        requests = [request if request.drafts else request.with_field("drafts", drafts) for request in requests]

    from t2v_core.rendering.local import LocalRenderer

    host = StandaloneHost(options.models_folder, options.device)
    with ConsoleProgress() as progress:
        run = Run(progress)
        if options.recipe:
            _say_if_weights_differ(options.recipe, requests[0].model, host=host, run=run)
            _say_if_files_differ(options.recipe, requests[0], run=run)
        renderer = LocalRenderer(host)
        _say_what_it_takes(requests, renderer, run)
        with stopping_by_signal(run):
            service.generate(requests, renderer=renderer, host=host, run=run, folder=options.output)
    return STOPPED if run.stop else 0


def models(options: argparse.Namespace) -> int:
    """List the models that are there, with what each makes by itself and under which licence."""
    from t2v_core.models.catalogue import find_all
    from t2v_core.models.layouts import native_size

    rows = [
        {
            "name": model.name,
            "makes": f"{native_size(model.config.defaults)} at {model.config.defaults.fps:g} fps",
            "layout": model.layout,
            "licence": model.known.licence if model.known else "",
            "folder": str(model.folder),
        }
        for model in find_all(StandaloneHost(options.models_folder).models_folders)
    ]
    _print_rows(rows, json=options.json)
    return 0


def loras(options: argparse.Namespace) -> int:
    """List the LoRAs that are there by the names that `--lora` takes."""
    from t2v_core.models.lora.find import find_all, folders

    models_folders = StandaloneHost(options.models_folder).models_folders
    rows = [{"name": lora.name, "file": str(lora.path)} for lora in find_all(models_folders)]
    if rows or options.json:
        _print_rows(rows, json=options.json)
    else:
        print(f"There is none here. LoRAs go into {folders(models_folders)[0]}.", file=sys.stderr)
    return 0


def download(options: argparse.Namespace) -> int:
    """Download a model into the first models folder, or list what can be downloaded."""
    from t2v_core.frontends.cli.progress import ConsoleProgress, stopping_by_signal
    from t2v_core.models.download import download
    from t2v_core.models.downloadable import DOWNLOADS, find_download
    from t2v_core.run import Run

    if options.name is None:
        rows = [
            {"name": row.name, "size": row.size, "licence": row.known.licence, "source": row.known.source}
            for row in DOWNLOADS
        ]
        _print_rows(rows, json=options.json)
        return 0
    folder = StandaloneHost(options.models_folder).models_folders[0]
    with ConsoleProgress() as progress:
        run = Run(progress)
        try:
            with stopping_by_signal(run, message="Stopping: what has come is kept, and the same command goes on."):
                path = download(find_download(options.name), folder, run=run)
        except Cancelled:
            return STOPPED
    print(path)
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Say for each file of a model or LoRA, or of all, whether it's what it should be, and if not what to do."""
    from t2v_core.models.catalogue import find_all, find_model
    from t2v_core.models.doctor import examine
    from t2v_core.models.lora.doctor import examine_lora
    from t2v_core.models.lora.find import find as find_lora
    from t2v_core.models.lora.find import find_all as find_loras

    folders = StandaloneHost(options.models_folder).models_folders
    found = find_all(folders)
    try:
        chosen, loras = ([find_model(options.folder, folders)], ()) if options.folder else (found, find_loras(folders))
    except ModelNotFoundError as error:
        try:
            chosen, loras = [], (find_lora(options.folder, folders),)
        except RequestError:
            raise error from None
    reports = [examine(model, thorough=options.thorough) for model in chosen]
    reports += [examine_lora(lora, found, thorough=options.thorough) for lora in loras]
    if options.json:
        _print_json([dataclasses.asdict(report) for report in reports])
    else:
        for report in reports:
            print(f"{report.name}: {report.folder}")
            for finding in report.findings:
                print(f"  {finding.severity.value:<8}{finding.file.name} {finding.what}")
                if finding.remedy:
                    print(f"          {finding.remedy}")
    return 0 if all(report.is_healthy for report in reports) else WeightsError.exit_code


def info(options: argparse.Namespace) -> int:
    """Show the recipe that a video carries."""
    from t2v_core.frontends.cli.requests import read_recipe

    text, recipe = read_recipe(options.file)
    if options.json:
        model = dataclasses.asdict(recipe.model) if recipe.model else None
        _print_json({"request": recipe.values, "model": model, "partial": recipe.partial, "extras": recipe.extras})
    else:
        print(text)
    return 0


def _say_what_it_takes(requests: Sequence[GenerationRequest], renderer: Renderer, run: Run) -> None:
    """Time and memory, each line once; what is wrong with a request is said when it is made."""
    from t2v_core import service
    from t2v_core.errors import Txt2VideoError
    from t2v_core.frontends.words import forecast
    from t2v_core.run import Notice

    said: set[str] = set()
    for request in requests:
        try:
            request.check(service.CHOICES)
            line = forecast(service.forecast(request, renderer))
        except Txt2VideoError:
            return
        if line not in said:
            run.report(Notice(line))
        said.add(line)


def _say_if_weights_differ(source: Path, model: str, *, host: StandaloneHost, run: Run) -> None:
    """A recipe is exact only with the weights that it names."""
    from t2v_core.frontends.cli.requests import read_recipe
    from t2v_core.models.catalogue import find_model
    from t2v_core.models.hashing import model_hash
    from t2v_core.run import Notice

    _, recipe = read_recipe(source)
    digest = model_hash(find_model(model, host.models_folders))
    if recipe.model and recipe.model.hash and recipe.model.hash != digest:
        made_by = f"{recipe.model.name} ({recipe.model.hash})"
        run.report(
            Notice(f"{source.name} was made by {made_by}; this is {model} ({digest}), so the video will differ.")
        )


def _say_if_files_differ(source: Path, request: GenerationRequest, *, run: Run) -> None:
    """It's exact only from the pictures and videos that it was made from, too."""
    from t2v_core.frontends.cli.requests import read_recipe
    from t2v_core.rendering.input_notes import changed_inputs
    from t2v_core.run import Notice

    _, recipe = read_recipe(source)
    taken = {name: value for name, value in recipe.values.items() if getattr(request, name) == value}
    for sentence in changed_inputs(taken, recipe.extras, None):
        run.report(Notice(sentence))


def _print_rows(rows: Sequence[Mapping[str, str]], *, json: bool) -> None:
    if json:
        _print_json(rows)
        return
    widths = {key: max(len(row[key]) for row in rows) for key in rows[0]}
    for row in rows:
        print("  ".join(row[key].ljust(width) for key, width in widths.items()).rstrip())


def _print_json(value: Any) -> None:
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2, default=_json_text)
    print()


def _json_text(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
