"""install.py installs what is missing, changes nothing that is there, and never stops the WebUI."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from packaging.requirements import Requirement

SCRIPT = Path(__file__).parents[2] / "install.py"

_spec = importlib.util.spec_from_file_location("txt2video_install", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
install = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = install  # dataclasses look their module up
_spec.loader.exec_module(install)

TORCH, NUMPY, MOVIEPY = Requirement("torch>=2.1,<3"), Requirement("numpy>=1.26,<3"), Requirement("Movie_Py>=1.0.3,<3")


class Machine:
    """Packages and their versions, and a pip that adds to them and remembers how it was called."""

    def __init__(self, versions, gives=None):
        self.versions = versions
        self.gives = gives or {}
        self.calls = []
        self.constraints = ""

    def pip(self, arguments):
        self.calls.append(list(arguments))
        self.constraints = Path(arguments[arguments.index("--constraint") + 1]).read_text(encoding="utf-8")
        self.versions.update(self.gives)


@pytest.fixture(autouse=True)
def no_webui(monkeypatch):
    """No WebUI is around, unless a test makes one."""
    monkeypatch.setitem(sys.modules, "launch", None)
    monkeypatch.delenv("COMMANDLINE_ARGS", raising=False)
    monkeypatch.delenv("INDEX_URL", raising=False)


@pytest.fixture
def machine(monkeypatch):
    def make(versions, gives=None):
        machine = Machine(dict(versions), gives)
        monkeypatch.setattr(install, "installed", lambda: dict(machine.versions))
        monkeypatch.setattr(install, "versions_of", lambda wanted: dict(machine.versions))
        return machine

    return make


def run(machine, *wanted):
    return install.install(wanted, run_pip=machine.pip)


def webui(monkeypatch, *, skip_install=False, index_url=""):
    launch = ModuleType("launch")
    launch.__dict__.update(args=SimpleNamespace(skip_install=skip_install), index_url=index_url)
    monkeypatch.setitem(sys.modules, "launch", launch)


def test_with_everything_there_it_says_and_does_nothing(machine):
    here = machine({"torch": "2.1.2+cu121", "numpy": "1.26.2", "movie-py": "2.2.1"})
    assert run(here, TORCH, NUMPY, MOVIEPY) == ""
    assert not here.calls


def test_what_is_missing_comes_in_one_call_and_nothing_else_is_named(machine):
    here = machine({"torch": "2.1.2+cu121", "pillow": "9.5.0"}, {"movie-py": "2.2.1", "numpy": "1.26.4", "new": "1"})
    line = run(here, TORCH, NUMPY, MOVIEPY)
    assert len(here.calls) == 1
    named = [Requirement(word) for word in here.calls[0][-2:]]
    assert named == [NUMPY, MOVIEPY]
    assert "torch" not in " ".join(here.calls[0])
    assert line == "installed movie-py 2.2.1, new 1, numpy 1.26.4."


def test_every_package_that_is_there_is_held_at_its_version(machine):
    here = machine({"torch": "2.1.2+cu121", "pillow": "9.5.0", "odd": "not a version"}, {"numpy": "1.26.4"})
    run(here, TORCH, NUMPY)
    assert here.constraints.splitlines() == ["torch==2.1.2+cu121", "pillow==9.5.0"]


def test_a_version_that_does_not_fit_is_named_and_left(machine):
    here = machine({"torch": "2.1.2", "numpy": "1.21.0"})
    line = run(here, TORCH, NUMPY)
    assert not here.calls
    assert "numpy 1.21.0 is installed" in line
    assert "update the WebUI" in line


def test_without_torch_nothing_is_installed(machine):
    here = machine({"numpy": "1.26.2"})
    assert "torch is missing" in run(here, TORCH, NUMPY, MOVIEPY)
    assert not here.calls


def test_the_webuis_skip_flag_is_honoured_and_the_remedy_named(machine, monkeypatch):
    webui(monkeypatch, skip_install=True)
    here = machine({"torch": "2.1.2"})
    line = run(here, TORCH, NUMPY)
    assert not here.calls
    assert "--skip-install" in line
    assert '-m pip install "numpy' in line


def test_without_a_webui_its_variables_are_read(machine, monkeypatch):
    monkeypatch.setenv("COMMANDLINE_ARGS", "--xformers --skip-install")
    here = machine({"torch": "2.1.2"})
    assert "--skip-install" in run(here, TORCH, NUMPY)
    monkeypatch.setenv("COMMANDLINE_ARGS", "--xformers")
    monkeypatch.setenv("INDEX_URL", "https://mirror.example/simple")
    run(here, TORCH, NUMPY)
    assert "https://mirror.example/simple" in here.calls[0]


def test_the_webuis_index_is_used(machine, monkeypatch):
    webui(monkeypatch, index_url="https://mirror.example/simple")
    here = machine({"torch": "2.1.2"})
    run(here, TORCH, NUMPY)
    assert here.calls[0][here.calls[0].index("--index-url") + 1] == "https://mirror.example/simple"


def test_a_pip_that_fails_is_one_line_with_the_remedy(machine):
    here = machine({"torch": "2.1.2"})

    def fail(arguments):
        raise install.PipError("No matching distribution found for numpy")

    line = install.install([TORCH, NUMPY, MOVIEPY], run_pip=fail)
    assert line.startswith("couldn't install numpy and Movie_Py: No matching")
    assert "by hand" in line
    assert "\n" not in line
    assert "there" in run(here, TORCH, NUMPY)  # a pip that claims to have done it


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("Collecting x\nERROR: Could not find\nERROR: No matching distribution found for x\n", "No matching"),
        ("WARNING: Retrying after connection broken by 'NewConnectionError(...)'\nERROR: No matching", "network"),
        ("Killed\n", "Killed"),
        ("", "without a word"),
    ],
)
def test_the_reason_is_found_in_pips_log(log, reason):
    assert reason in install.reason_in(log)


def test_a_real_pip_that_cannot_is_a_pip_error(monkeypatch):
    with pytest.raises(install.PipError, match="no such option"):
        install.pip(["install", "--no-such-option"])
    monkeypatch.setattr(install, "LONGEST", 0.01)
    with pytest.raises(install.PipError, match="longer"):
        install.pip(["--version"])


@pytest.mark.parametrize("build", ["opencv-python", "opencv-python-headless", "opencv-contrib-python"])
def test_any_build_of_opencv_is_enough(build, monkeypatch):
    def version(name):
        if name == build:
            return "4.11.0.86"
        raise install.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(install.metadata, "version", version)
    (wanted,) = [each for each in install.requirements(install.PROJECT) if "opencv" in each.name]
    assert not wanted.specifier.contains("4.5")
    assert install.find_gaps([wanted], install.versions_of([wanted])) == install.Gaps()


@pytest.mark.filterwarnings("ignore:Setuptools is replacing distutils")  # where another test has imported distutils
def test_pyproject_is_read_without_torch_being_changed(monkeypatch):
    wanted = {install.normal(each.name) for each in install.requirements(install.PROJECT)}
    assert {"torch", "moviepy", "imageio-ffmpeg", "open-clip-torch"} <= wanted
    monkeypatch.setitem(sys.modules, "tomllib", None)
    monkeypatch.setitem(sys.modules, "tomli", None)
    if importlib.util.find_spec("pip._vendor.tomli"):
        assert {install.normal(each.name) for each in install.requirements(install.PROJECT)} == wanted
    monkeypatch.setitem(sys.modules, "pip._vendor.tomli", None)
    with pytest.raises(ImportError, match="tomli"):
        install.requirements(install.PROJECT)


@pytest.mark.parametrize("content", [None, "", "][", "[project]\ndependencies = ['!']"])
def test_whatever_is_wrong_is_one_line_and_no_error(content, capsys, monkeypatch, tmp_path):
    project = tmp_path / "pyproject.toml"
    if content is not None:
        project.write_text(content)
    monkeypatch.setattr(install, "PROJECT", project)
    install.main()
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_webui_can_run_it_as_it_does(tmp_path):
    """A subprocess in another folder; a `launch` that even ends the process is survived."""
    (tmp_path / "launch.py").write_text("raise SystemExit(1)")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    script = f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import install; print(install.ask_host())"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert "skip_install=False" in done.stdout
