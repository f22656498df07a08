"""A virtual environment for each of the WebUIs whose gradio the tab runs on, made once and kept.

Torch is not installed again: its files are linked from the environment that runs the tests.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
PINS = Path(__file__).parent / "hosts"
HOSTS = tuple(sorted(path.stem for path in PINS.glob("*.in")))
PYTHONS = ((3, 10), (3, 12))
"""The first and the last Python for which the hosts' old packages have wheels."""


def folder_of_environments() -> Path:
    """Where the environments are kept: `TXT2VIDEO_HOST_ENVIRONMENTS`, else build/hosts."""
    return Path(os.environ.get("TXT2VIDEO_HOST_ENVIRONMENTS") or ROOT / "build" / "hosts")


def python_of(host: str) -> Path:
    """The Python of a host's environment, which is made if it isn't there or its pins have changed."""
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        raise RuntimeError(
            f"The hosts' packages have no wheels for Python {sys.version.split()[0]}: run the tests in 3.11."
        )
    pins = PINS / f"{host}.txt"
    made_of = f"{sys.version} {importlib.metadata.version('torch')}".encode() + pins.read_bytes()
    stamp = hashlib.sha256(made_of).hexdigest()
    folder = folder_of_environments() / host
    python = folder / "bin" / "python"
    marked = folder / "made-from"
    if not (marked.is_file() and marked.read_text() == stamp and python.exists()):
        _make(folder, pins)
        marked.write_text(stamp)
    return python


def _make(folder: Path, pins: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, symlinks=True, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check", "--no-deps"]
    # The list is complete, so that nothing has to be resolved. Of open_clip the tokenizer alone is used: neither its
    # torchvision nor its timm is wanted here.
    for wanted in (["-r", pins], ["open-clip-torch==2.20.0"]):
        done = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"pip couldn't make {folder}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    _borrow_torch(next(folder.glob("lib/python*/site-packages")))


def _borrow_torch(site: Path) -> None:
    """Link torch, and what it needs that the environment hasn't got, such as CUDA's libraries."""
    waiting, seen = ["torch"], set()
    there = {_normal(each.metadata["Name"]) for each in importlib.metadata.distributions(path=[str(site)])}
    while waiting:
        name = waiting.pop()
        if name in seen | there:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform
        waiting += [_normal(line.split(";")[0]) for line in distribution.requires or () if "extra ==" not in line]
        for top in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
            link = site / top
            if not link.exists():
                link.symlink_to(Path(str(distribution.locate_file(top))).resolve())


def _normal(requirement: str) -> str:
    """A package's name as the index writes it, without version and extras."""
    name = requirement.strip()
    for mark in "<>=!~[( ;":
        name = name.split(mark)[0]
    return name.lower().replace("_", "-").replace(".", "-")
