"""The command line's flags, made from the table of request fields."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from t2v_core import __version__
from t2v_core.fields import Field, parse
from t2v_core.frontends.cli import commands, serve
from t2v_core.request import FIELDS
from t2v_core.service import CHOICES

PROMPT = "prompt"
GRID, DRAFT = "grid", "draft"


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; each command's function stands in `options.command`."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--verbose", action="store_true", help="show details, and tracebacks of unexpected errors")
    common.add_argument(
        "--models-folder", type=Path, metavar="FOLDER", help="where models lie, instead of models/ and the WebUI's"
    )
    parser = argparse.ArgumentParser(
        prog="python -m t2v_core",
        description="Text to video with ModelScope 1.7B, and with a demo model that is included.",
    )
    parser.add_argument("--version", action="version", version=f"txt2video {__version__}")
    actions = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Any, summary: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=summary, description=summary, parents=[common])
        action.set_defaults(command=command)
        return action

    _add_generate(add("generate", commands.generate, "Make videos from prompts."))
    _add_generate(add(GRID, commands.grid, "Make clips over the values of some fields, and one video of them all."))
    _add_generate(
        add(DRAFT, commands.draft, "Make a sheet of drafts, many seeds in few steps, and render some of them.")
    )

    _add_json(add("models", commands.models, "List the models that are there."))
    _add_json(add("loras", commands.loras, "List the LoRAs that are there."))

    download = add("download", commands.download, "Download a model; without a name, list what can be downloaded.")
    download.add_argument("name", nargs="?", metavar="NAME", help="a name from that list")
    _add_json(download)

    doctor = add(
        "doctor", commands.doctor, "Examine the files of models and LoRAs, and say what to do about what is wrong."
    )
    doctor.add_argument("folder", nargs="?", metavar="FOLDER", help="a folder or name of a model or LoRA; default: all")
    doctor.add_argument("--thorough", action="store_true", help="read every file to its end and check its sums")
    _add_json(doctor)

    info = add("info", commands.info, "Show the recipe that a video carries.")
    info.add_argument("file", type=Path, metavar="FILE")
    _add_json(info)

    serve.add_flags(add("serve", serve.serve, "Serve the page in the browser, for one person or several."))
    return parser


def _add_json(action: argparse.ArgumentParser) -> None:
    action.add_argument("--json", action="store_true", help="print JSON, for programs")


def _add_generate(action: argparse.ArgumentParser) -> None:
    action.add_argument("--output", type=Path, metavar="FOLDER", help="default: outputs/txt2video-videos/DATE")
    action.add_argument("--device", help='torch device, such as "cpu" or "cuda:1"; default: the best there is')
    sources = action.add_mutually_exclusive_group()
    sources.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="many videos: a text file with one prompt a line, or a JSON list of requests",
    )
    sources.add_argument("--from", dest="recipe", type=Path, metavar="FILE", help="make a video again from its recipe")
    either = action.add_mutually_exclusive_group()
    either.add_argument(PROMPT, nargs="?", default=argparse.SUPPRESS, help=FIELDS[PROMPT].spec.help)
    either.add_argument(FIELDS[PROMPT].flag, default=argparse.SUPPRESS, metavar="TEXT", help="the same, by its name")
    for field in FIELDS.values():
        if field.name != PROMPT:
            _add_field(action, field)
    action.epilog = "Grids and drafts are in docs/drafts-and-grids.md."


def _add_field(action: argparse.ArgumentParser, field: Field) -> None:
    """A flag that leaves no trace if it isn't given, so that a recipe or a file of prompts can fill it."""
    if field.kind is bool:
        action.add_argument(
            field.flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=field.spec.help
        )
        return
    if field.name == "over":  # several of them are the axes of one grid
        action.add_argument(
            field.flag, action="append", default=argparse.SUPPRESS, metavar="FIELD=VALUES", help=field.spec.help
        )
        return
    notes = [", ".join(CHOICES[field.name]) if field.name in CHOICES else field.limits]
    if field.optional:
        notes.append(f"default: {field.spec.otherwise}" if field.name != "eta" else "")
    elif field.default not in ("", None):
        notes.append(f"default: {field.default}")
    note = "; ".join(note for note in notes if note)
    text = f"{field.spec.help} ({note})" if note else field.spec.help
    action.add_argument(
        field.flag,
        type=lambda text: parse(field, text),
        default=argparse.SUPPRESS,
        metavar={int: "N", float: "X"}.get(field.kind, "TEXT"),
        help=text.replace("%", "%%"),
    )
