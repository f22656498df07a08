"""Arrows point down: which module may import which, and what loading a front door costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "t2v_core"
MODULES = sorted(PACKAGE.rglob("*.py"))

VOCABULARY = {
    "request",
    "fields",
    "video",
    "run",
    "errors",
    "infotext",
    "host",
    "speed",
    "source_fields",
    "finish_fields",
    "length_fields",
    "output_fields",
    "machine_fields",
}
CRAFT = {"models", "sampling", "media", "postprocess", "prompts", "grid"}
MAY_IMPORT = {
    **dict.fromkeys(VOCABULARY, VOCABULARY),
    **{name: VOCABULARY | {name} for name in CRAFT},
    "rendering": VOCABULARY | CRAFT | {"rendering"},
    "finishing": VOCABULARY | CRAFT,
    "orders": VOCABULARY | CRAFT,
    "sheets": VOCABULARY | CRAFT | {"orders"},
    "saving": VOCABULARY | CRAFT | {"rendering"},
    "service": VOCABULARY | CRAFT | {"rendering", "finishing", "orders", "sheets", "saving"},
    "jobs": VOCABULARY | CRAFT | {"rendering", "service"},
}
TOP = {"frontends", "hosts", "__main__", "__init__"}
"""May import everything below; the test after next says what only some of them may."""

ONLY_IN = {
    "gradio": ("frontends/tab/",),
    "fastapi": ("frontends/rest/",),
    "huggingface_hub": ("models/hub.py",),
    "modules": ("hosts/webui/",),
    "argparse": ("frontends/cli/",),
    "tqdm": ("frontends/cli/",),
}
WITHOUT_TORCH = (
    "t2v_core",
    "t2v_core.request",
    "t2v_core.infotext",
    "t2v_core.sampling",
    "t2v_core.media",
    "t2v_core.models",
    "t2v_core.prompts.script",
    "t2v_core.service",
    "t2v_core.frontends.cli",
    "t2v_core.hosts.standalone",
)


def imported(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file, by its full name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part_of(module: str) -> str:
    """The layer of a module of ours: the name after `t2v_core.`."""
    return module.split(".")[1] if "." in module else "__init__"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_lies_below_it(path: Path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part in TOP or part == "demo":
        return
    ours = {name for name in imported(path) if name.split(".")[0] == "t2v_core"}
    above = {name for name in ours if part_of(name) not in MAY_IMPORT[part] | {"__version__"}}
    assert not above, f"{part} may not import {sorted(above)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_outer_world_is_met_in_one_place(path: Path):
    relative = path.relative_to(PACKAGE).as_posix()
    for name in {name.split(".")[0] for name in imported(path)}:
        places = ONLY_IN.get(name, ("",))
        assert relative.startswith(places), f"{name} belongs into {places}"


def test_the_vocabulary_needs_only_the_standard_library_and_numpy():
    allowed = {*sys.stdlib_module_names, "numpy", "t2v_core"}
    for name in VOCABULARY:
        roots = {module.split(".")[0] for module in imported(PACKAGE / f"{name}.py")}
        assert roots <= allowed, f"{name} imports {sorted(roots - allowed)}"


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_importing_loads_no_torch(module: str):
    script = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_no_module_is_long_and_none_is_named_after_nothing():
    for path in MODULES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
        assert path.stem not in {"utils", "helpers", "manager", "common"}, path
