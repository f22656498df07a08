"""The project's own files agree with each other: the README's lines, CI, the version, and the ranges of packages."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import t2v_core
from t2v_core.frontends.cli.parser import build_parser

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")

PINS = {
    "AUTOMATIC1111 1.10.1": {
        "torch": "2.1.2",
        "numpy": "1.26.2",
        "einops": "0.4.1",
        "open-clip-torch": "2.20.0",
        "pillow": "9.5.0",
        "psutil": "5.9.5",
        "huggingface-hub": "0.36.2",
    },
    "Forge": {
        "torch": "2.3.1",
        "numpy": "1.26.2",
        "einops": "0.4.1",
        "open-clip-torch": "2.20.0",
        "pillow": "9.5.0",
        "psutil": "5.9.5",
        "tqdm": "4.66.1",
        "huggingface-hub": "0.26.2",
    },
}
"""What the hosts' requirements_versions.txt and launch_utils.py name among the packages that we use; and
the newest huggingface-hub that AUTOMATIC1111's transformers allows."""

IMPORTED_AS = {
    "open-clip-torch": "open_clip",
    "imageio-ffmpeg": "imageio_ffmpeg",
    "huggingface-hub": "huggingface_hub",
    "pillow": "PIL",
    "opencv-python-headless": "cv2",
}


def readme_line(name: str) -> str:
    """The only line of the fenced block that a comment marks in the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"^<!-- command: {name} -->\n```\w+\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, f"the README marks {len(blocks)} commands as {name}"
    assert "\n" not in blocks[0], f"{name} is to be one line"
    return blocks[0]


def requirements(*extras: str) -> dict[str, Requirement]:
    """What pyproject.toml asks for, by package."""
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    return {canonicalize_name(each.name): each for each in map(Requirement, lines)}


def constrained(python: str) -> dict[str, str]:
    """The versions in constraints.txt for one Python on Linux, by package."""
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    environment |= {"sys_platform": "linux", "platform_machine": "x86_64", "platform_python_implementation": "CPython"}
    versions = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate(environment):
            name = canonicalize_name(pin.name)
            assert name not in versions, f"{name} has two versions on Python {python}"
            versions[name] = str(pin.specifier).removeprefix("==")
    return versions


def tracked_files() -> list[Path]:
    """Every file of the project; all that lies here where git doesn't say which those are."""
    git = shutil.which("git")
    if git and (ROOT / ".git").exists():
        listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
        if listed.returncode == 0:
            return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]
    own = ("t2v_core", "tests", "benchmarks", "docs", "scripts", ".ci", ".github")
    return [path for folder in own for path in (ROOT / folder).rglob("*") if path.is_file()]


def texts() -> list[tuple[Path, str]]:
    """Every file of the project that is a text, but this one, which names what it looks for."""
    found = []
    for path in tracked_files():
        content = path.read_bytes()
        if path != Path(__file__) and b"\0" not in content:
            found.append((path.relative_to(ROOT), content.decode("utf-8")))
    return found


def test_the_first_line_goes_from_nothing_to_a_video():
    clone, folder, environment, activate, install, generate = readme_line("video").split(" && ")
    assert clone.startswith("git clone ")
    assert folder == "cd " + clone.split()[-1]
    assert environment == "python3 -m venv .venv"
    assert activate == ". .venv/bin/activate"
    assert install == "pip install -c constraints.txt ."
    words = shlex.split(generate)
    assert words[:3] == ["python", "-m", "t2v_core"]
    assert build_parser().parse_args(words[3:]).prompt == "a red ball moving left on a black background"


@pytest.mark.parametrize("name", ["video", "tests"])
def test_files_and_extras_that_a_line_names_are_there(name: str):
    words = shlex.split(readme_line(name))
    for flag, file in itertools.pairwise(words):
        if flag in {"-c", "-r"}:
            assert (ROOT / file).is_file()
    for extra in re.findall(r"\.\[(\w+)\]", " ".join(words)):
        assert extra in PROJECT["optional-dependencies"]


@pytest.mark.skipif(shutil.which("bash") is None or sys.platform == "win32", reason="CI's script is for bash")
def test_ci_runs_the_lines_of_the_readme():
    shown = subprocess.run(["bash", ".ci/run", "--show"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    video, tests = shown.splitlines()
    assert readme_line("video").endswith(" && " + video)
    assert video.startswith("pip install -c constraints.txt . && python -m t2v_core generate ")
    assert tests == readme_line("tests")


def test_the_windows_line_does_the_same_as_the_first():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, _, _, _, install, generate = readme_line("video").split(" && ")
    assert rf"py -m venv .venv && .venv\Scripts\activate && {install} && {generate}" in readme


def test_the_version_is_written_once():
    assert "version" in PROJECT["dynamic"]
    assert "version" not in PROJECT
    assert f"## {t2v_core.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("host", "package"), [(host, package) for host, pins in PINS.items() for package in pins])
def test_what_a_host_pins_is_enough_for_us(host: str, package: str):
    assert requirements()[package].specifier.contains(PINS[host][package])


@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_name_one_version_within_the_ranges(python: str):
    versions = constrained(python)
    assert {"torchvision", "pillow", "timm"} <= versions.keys(), "what our packages need is constrained as well"
    for name, requirement in requirements("test").items():
        assert requirement.specifier.contains(versions[name]), f"{requirement}, but {versions[name]} on {python}"


def test_each_supported_python_is_tried_and_no_other():
    pythons = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert [f"3.{minor}" for minor in range(8, 20) if pythons.contains(f"3.{minor}.0")] == list(PYTHONS)


def test_every_package_that_is_imported_is_asked_for_and_the_other_way_round():
    used = set()
    for path in (ROOT / "t2v_core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                used |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                used.add((node.module or "").split(".")[0])
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("find_spec"):
                used |= {str(ast.literal_eval(argument)) for argument in node.args}
    used -= {*sys.stdlib_module_names, "t2v_core", "modules"}  # the WebUI's
    assert used == {IMPORTED_AS.get(name, name) for name in requirements("page")}


def test_the_licences_of_code_and_weights_are_said():
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    assert "CC-BY-NC-4.0" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?<![\w.:/~-])/(?:work|root|home|Users)/\w",
        r"(?i)\bc:\\+users\\+\w",
        r"\b(?:TODO|FIXME|XXX)\b",
        r"^(?:<{7}|>{7}) ",
    ],
    ids=["somebody's machine", "somebody's Windows machine", "left for later", "a merge's marks"],
)
def test_no_file_holds(pattern: str):
    found = [f"{path}: {match.group()}" for path, text in texts() if (match := re.search(pattern, text, re.MULTILINE))]
    assert not found
