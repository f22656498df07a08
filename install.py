"""What the WebUI runs before it starts: installs the packages that pyproject.toml lists and the host lacks.

It changes no package that is there, says nothing if there is nothing to do, and never keeps the WebUI from starting.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packaging.requirements import InvalidRequirement, Requirement
else:
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:  # every pip has a copy
        from pip._vendor.packaging.requirements import InvalidRequirement, Requirement

PROJECT = Path(__file__).with_name("pyproject.toml")
HOSTS_OWN = ("torch",)
"""Never installed here: which build is the right one only the WebUI knows."""

ALSO_AS = {"opencv-python-headless": ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")}
"""Packages that come under several names, all with the same modules: a second one would overwrite the first."""

LONGEST = 600
"""Seconds that pip may take before the WebUI starts without it."""


@dataclass(frozen=True, slots=True)
class Host:
    """What the WebUI says about installing: whether it's switched off, and from which index."""

    skip_install: bool = False
    index_url: str = ""


@dataclass(frozen=True, slots=True)
class Gaps:
    """What the host lacks, and what it has in a version that doesn't fit, with that version."""

    missing: tuple[Requirement, ...] = ()
    unfit: tuple[tuple[Requirement, str], ...] = ()


Pip = Callable[[Sequence[str]], None]
"""Runs pip with these arguments; raises `PipError`."""


class PipError(Exception):
    """Pip didn't do it; the text is the reason in one line."""


def main(*, run_pip: Pip | None = None) -> None:
    """Install what is missing and say so in one line; whatever goes wrong is said in one line, too."""
    try:
        line = install(requirements(PROJECT), run_pip=run_pip or pip)
    except Exception as error:
        line = f"something went wrong while looking for missing packages: {type(error).__name__}: {error}"
    if line:
        encoding = sys.stdout.encoding or "ascii"  # on Windows not one that every path fits in
        print("txt2video:", " ".join(line.split()).encode(encoding, "replace").decode(encoding))


def install(wanted: Sequence[Requirement], *, run_pip: Pip) -> str:
    """Fill the gaps in one call of pip; returns the line to print, empty if there is nothing to say."""
    gaps = find_gaps(wanted, versions_of(wanted))
    notes = [*_own_notes(gaps), *_unfit_notes(gaps)]
    missing = [requirement for requirement in gaps.missing if requirement.name not in HOSTS_OWN]
    if not missing or _own_notes(gaps):
        return " ".join(notes)
    by_hand = f"To install by hand: {_command_line(['install', *map(str, missing)])}"
    host, before = ask_host(), installed()
    if host.skip_install:
        return " ".join([f"needs {_names(missing)}, but --skip-install is set.", by_hand, *notes])
    try:
        with constraints(before) as file:
            run_pip(pip_arguments(missing, constraints=file, index_url=host.index_url))
    except PipError as error:
        return " ".join([f"couldn't install {_names(missing)}: {error}", by_hand, *notes])
    importlib.invalidate_caches()
    after = installed()
    new = [f"{name} {version}" for name, version in sorted(after.items()) if name not in before]
    left = find_gaps(missing, after)
    if left.missing or left.unfit:
        return " ".join(["pip ended well, but the packages aren't all there.", by_hand, *notes])
    return " ".join([f"installed {', '.join(new)}.", *notes])


def requirements(project: Path) -> list[Requirement]:
    """The dependencies in a pyproject.toml that count on this machine."""
    lines = _toml()(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    found = [Requirement(line) for line in lines]
    return [each for each in found if each.marker is None or each.marker.evaluate()]


def versions_of(wanted: Sequence[Requirement]) -> dict[str, str]:
    """The installed versions of these packages alone, which is quick, by normalised name; see `ALSO_AS`."""
    versions = {}
    for each in wanted:
        for name in (*reversed(ALSO_AS.get(normal(each.name), ())), each.name):
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions[normal(each.name)] = metadata.version(name)
    return versions


def installed() -> dict[str, str]:
    """The version of every package that Python finds here, by its normalised name."""
    versions: dict[str, str] = {}
    for distribution in metadata.distributions():
        with contextlib.suppress(Exception):  # left-overs of broken installations
            name, version = distribution.metadata["Name"], distribution.version
            if name and version:
                versions.setdefault(normal(name), version)
    return versions


def find_gaps(wanted: Sequence[Requirement], versions: Mapping[str, str]) -> Gaps:
    """Which of the requirements these installed versions don't meet."""
    there = [(each, versions[normal(each.name)]) for each in wanted if normal(each.name) in versions]
    missing = tuple(each for each in wanted if normal(each.name) not in versions)
    unfit = tuple((each, version) for each, version in there if not _fits(each, version))
    return Gaps(missing, unfit)


def ask_host() -> Host:
    """The WebUI's own settings; without a WebUI, what its environment variables say."""
    try:
        import launch  # pyright: ignore[reportMissingImports]

        return Host(bool(launch.args.skip_install), str(launch.index_url or ""))
    except (Exception, SystemExit):  # no WebUI here, or one whose command line can't be read here
        arguments = shlex.split(os.environ.get("COMMANDLINE_ARGS", ""), posix=os.name != "nt")
        return Host("--skip-install" in arguments, os.environ.get("INDEX_URL", ""))


@contextlib.contextmanager
def constraints(versions: Mapping[str, str]) -> Iterator[Path]:
    """A file that lets pip change nothing of what is installed."""
    with tempfile.TemporaryDirectory(prefix="txt2video-") as folder:
        file = Path(folder) / "constraints.txt"
        lines = [f"{name}=={version}" for name, version in versions.items() if _is_requirement(f"{name}=={version}")]
        file.write_text("\n".join(lines), encoding="utf-8")
        yield file


def pip_arguments(missing: Sequence[Requirement], *, constraints: Path, index_url: str) -> list[str]:
    """The one call of pip that installs all that is missing."""
    index = ["--index-url", index_url] if index_url else []
    options = ["--prefer-binary", "--no-input", "--disable-pip-version-check", "--timeout", "15", "--retries", "2"]
    return ["install", *options, *index, "--constraint", str(constraints), *map(str, missing)]


def pip(arguments: Sequence[str]) -> None:
    """Run pip of this Python; raises `PipError`."""
    command = [sys.executable, "-m", "pip", *arguments]
    try:
        with tempfile.TemporaryFile() as log:  # a pipe would be waited for as long as any process of pip's has it
            result = subprocess.run(  # noqa: S603 - our own arguments, no shell
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=LONGEST, check=False
            )
            log.seek(0)
            said = log.read().decode("utf-8", "replace")
    except subprocess.TimeoutExpired as error:
        raise PipError(f"pip took longer than {LONGEST // 60} minutes.") from error
    except OSError as error:
        raise PipError(f"pip can't be run: {error}.") from error
    if result.returncode:
        raise PipError(reason_in(said))


def reason_in(log: str) -> str:
    """Why pip failed, in one line, from all that it printed."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if any(word in log for word in ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "ProxyError")):
        return "the package index can't be reached; check the network or the proxy."
    errors = [line.partition("ERROR:")[2].strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip failed without a word."])[-1][:300]


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _fits(requirement: Requirement, version: str) -> bool:
    try:
        return requirement.specifier.contains(version, prereleases=True)
    except ValueError:  # a version that isn't one: the host's business
        return True


def _own_notes(gaps: Gaps) -> list[str]:
    return [
        f"{each.name} is missing, which the WebUI installs itself; start the WebUI once, then again."
        for each in gaps.missing
        if each.name in HOSTS_OWN
    ]


def _unfit_notes(gaps: Gaps) -> list[str]:
    return [
        f"{each.name} {version} is installed, but {each.name} {each.specifier} is needed; it is left as it is, "
        "for other parts of the WebUI may need it: update the WebUI."
        for each, version in gaps.unfit
    ]


def _names(missing: Sequence[Requirement]) -> str:
    names = [each.name for each in missing]
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def _command_line(arguments: Sequence[str]) -> str:
    words = [sys.executable, "-m", "pip", *arguments]
    return " ".join(f'"{word}"' if re.search(r"[^\w./:\\-]", word) else word for word in words)


def _is_requirement(line: str) -> bool:
    try:
        Requirement(line)
    except InvalidRequirement:
        return False
    return True


def _toml() -> Callable[[str], dict[str, Any]]:
    """A parser for TOML: Python has one from 3.11 on, and pip has one before."""
    for name in ("tomllib", "tomli", "pip._vendor.tomli"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(name).loads
    raise ImportError("Python 3.10 needs tomli or pip to read pyproject.toml")


if __name__ == "__main__":
    main()
