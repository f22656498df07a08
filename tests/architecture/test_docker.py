"""The Dockerfile, as far as it can be tried without an engine: its files, its command, its Python, its user."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from t2v_core.frontends.cli.parser import build_parser

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its arguments, comments and continued lines taken away."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def of(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def test_every_instruction_is_one():
    known = {"FROM", "ARG", "ENV", "RUN", "COPY", "USER", "WORKDIR", "VOLUME", "EXPOSE", "HEALTHCHECK", "CMD"}
    assert {name for name, _ in instructions()} <= known
    assert instructions()[0][0] == "FROM"


def test_what_is_copied_is_there_and_gets_past_dockerignore():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    kept = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    sources = [source for line in of("COPY") for source in shlex.split(line)[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in kept), f"{source} is ignored"


def test_what_the_build_reads_is_copied():
    """The package, what names it, and what `setup.py` puts into it from elsewhere."""
    sources = {source for line in of("COPY") for source in shlex.split(line)[:-1]}
    needed = {"pyproject.toml", "setup.py", "t2v_core", PROJECT["readme"], *PROJECT["license-files"]}
    shared = re.search(r"^SHARED = (\(.*\))$", (ROOT / "setup.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert shared
    needed |= {name.partition("/")[0] for name in re.findall(r'"([^"]+)"', shared[1])}
    assert needed <= sources


def test_the_python_is_supported():
    (image,) = of("FROM")
    version = re.fullmatch(r"python:(\d+\.\d+)-slim", image)
    assert version
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(f"{version[1]}.0")


def test_the_command_is_one_of_ours_and_asks_for_a_login():
    (command,) = map(json.loads, of("CMD"))
    assert command[:3] == ["python", "-m", "t2v_core"]
    options = build_parser().parse_args(command[3:])
    assert options.command.__name__ == "serve"
    assert options.auth_file
    assert not options.auth, "a password in an image is everybody's"
    assert f"{options.port}" in of("EXPOSE")


def test_nobody_is_root_and_the_volumes_are_where_the_program_looks():
    words = [name for name, _ in instructions()]
    assert words.index("USER") < words.index("CMD")
    assert of("USER") == ["txt2video"]
    (folder,) = of("WORKDIR")
    assert json.loads(of("VOLUME")[0]) == [f"{folder}/models", f"{folder}/outputs"]


def test_the_health_check_is_a_program_that_asks_what_needs_no_login():
    (check,) = of("HEALTHCHECK")
    command = json.loads(check.partition("CMD")[2])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "HEALTHCHECK", "exec")
    (serve,) = map(json.loads, of("CMD"))
    assert f":{build_parser().parse_args(serve[3:]).port}/login" in command[2]


def test_the_extra_that_is_installed_is_declared():
    extras = {extra for line in of("RUN") for extra in re.findall(r"\[(\w+)\]", line)}
    assert extras == {"page"}
    assert extras <= PROJECT["optional-dependencies"].keys()


@pytest.mark.skipif(find_spec("setuptools") is None, reason="setuptools isn't here")
def test_the_installed_package_holds_what_lies_elsewhere_in_a_checkout(tmp_path):
    # In a process of its own: setuptools must come before whatever else imports distutils.
    script = """
import importlib.util, json, sys
import setuptools

setuptools.setup = lambda **options: None
spec = importlib.util.spec_from_file_location("setup_py", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
command = module.BuildWithSharedFiles(setuptools.Distribution({"packages": []}))
command.ensure_finalized()
command.build_lib = sys.argv[2]
command.run()
print(json.dumps([str(name) for name in module.SHARED]))
"""
    command = [sys.executable, "-c", script, str(ROOT / "setup.py"), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    names = json.loads(done.stdout.splitlines()[-1])
    assert names
    shared = tmp_path / "t2v_core" / "frontends" / "page" / "shared"
    for name in names:
        assert (shared / Path(name).name).read_bytes() == (ROOT / name).read_bytes()
