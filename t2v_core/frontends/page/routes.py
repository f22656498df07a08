"""What the gate answers for a visitor: how far a run is, stopping it, and the page's own scripts and styles."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t2v_core.frontends.page.files import ROUTE, Files
from t2v_core.frontends.page.following import Follower
from t2v_core.frontends.page.gate import Route
from t2v_core.frontends.page.http import Answer, Asked, as_json, text
from t2v_core.jobs import Job, Jobs

HERE = Path(__file__).parent
SHARED = HERE / "shared"
"""The WebUI's script and style in an installed package; `setup.py` puts them there."""

CHECKOUT = HERE.parents[2]
"""Where they lie in a checkout, because the WebUI wants them there."""

ASSETS: Mapping[str, tuple[Path, str]] = {
    "page.js": (HERE / "page.js", "text/javascript"),
    "txt2video.js": (Path("javascript") / "txt2video.js", "text/javascript"),
    "style.css": (Path("style.css"), "text/css"),
    "page.css": (HERE / "page.css", "text/css"),
}
"""In the order in which the page loads them."""


def routes(jobs: Jobs, files: Files) -> dict[str, Route]:
    """The gate's own answers by method and first word of the path."""
    return {
        "GET progress": functools.partial(_progress, jobs),
        "POST stop": functools.partial(_stop, jobs),
        f"GET {ROUTE}": files.serve,
        "GET assets": _asset,
    }


def head(tips: Mapping[str, str]) -> str:
    """The lines of the page's head that load the scripts and styles; `tips` are the tooltips by element's id."""
    lines = [f'<meta name="txt2video-tips" content="{html.escape(json.dumps(tips))}">']
    for name, (_, kind) in ASSETS.items():
        content = asset(name).read_bytes()
        address = f"txt2video/assets/{name}?v={hashlib.sha256(content).hexdigest()[:8]}"
        is_script = kind == "text/javascript"
        lines.append(f'<script src="{address}"></script>' if is_script else f'<link rel="stylesheet" href="{address}">')
    return "\n".join(lines)


def asset(name: str) -> Path:
    """The file of an asset, where this installation has it."""
    path = ASSETS[name][0]
    if path.is_absolute():
        return path
    installed = SHARED / path.name
    return installed if installed.is_file() else CHECKOUT / path


async def _progress(jobs: Jobs, asked: Asked) -> Answer:
    job = jobs.find(asked.query.get("task", ""), owner=asked.visitor)
    if job is None:
        return as_json({"state": "unknown"})
    if job.ended.is_set():
        return as_json({"state": "ended"})
    return as_json(await asyncio.to_thread(_state, jobs, job, asked.query.get("seen", "")))


def _state(jobs: Jobs, job: Job, seen: str) -> dict[str, Any]:
    follower = job.follower
    assert isinstance(follower, Follower)
    picture = follower.preview()
    number = hashlib.sha256(picture.encode()).hexdigest()[:12] if picture else ""
    return {
        "state": "running",
        "before": jobs.before(job),
        "words": follower.words,
        "fraction": follower.fraction,
        "time_left": follower.time_left,
        "preview": "" if number == seen else picture,
        "preview_id": number,
    }


async def _stop(jobs: Jobs, asked: Asked) -> Answer:
    job = jobs.find(asked.query.get("task", ""), owner=asked.visitor)
    if job is None:
        return text("There is no such run.", status=404)
    if asked.query.get("how") == "skip":
        jobs.skip(job)
    else:
        jobs.interrupt(job)
    return text("Stopping.")


async def _asset(asked: Asked) -> Answer:
    if asked.path not in ASSETS:
        return text("There is nothing here.", status=404)
    kind = f"{ASSETS[asked.path][1]}; charset=utf-8"
    return Answer(file=asset(asked.path), kind=kind, headers={"cache-control": "private, max-age=3600"})
