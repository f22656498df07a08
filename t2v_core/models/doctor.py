"""Examines a model's folder without loading it: what each file is, whether it is whole, and what to do about it.

The judgements are the loader's own, so that loading says the same as the doctor.
"""

from __future__ import annotations

import enum
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from t2v_core.errors import WeightsError
from t2v_core.models.layouts import ModelFolder, looks_like_a_model
from t2v_core.models.loading import count_bytes, match_part
from t2v_core.models.matching import Target
from t2v_core.models.tensors import FileError
from t2v_core.models.weights_file import files_of, read_weights
from t2v_core.models.whole import DOWNLOAD_AGAIN, LEFTOVER_SUFFIXES, damage_named, opened, second_copy_of


class Severity(str, enum.Enum):
    """How much a finding matters: only an error keeps the model from working."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be said about one file; an error has a remedy."""

    file: Path
    severity: Severity
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings about one model, the parts in the order in which a run needs them."""

    name: str
    folder: Path
    layout: str
    findings: tuple[Finding, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether nothing keeps the model from loading."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)


def examine(model: ModelFolder, *, thorough: bool = False) -> Report:
    """Judge every file of a model.

    Args:
        model: what `catalogue.find_model` found, or `layouts.describe` described.
        thorough: read the files from end to end, and check the sums that torch's files carry.
    """
    findings = (*_of_folder(model), *_of_parts(model, thorough=thorough), *_of_leftovers(model))
    return Report(model.name, model.folder, model.layout, findings)


def _of_folder(model: ModelFolder) -> Iterator[Finding]:
    for problem in model.problems:
        yield _error(problem)
    for note in model.notes:
        yield Finding(note.file, Severity.NOTE, note.what)
    if not looks_like_a_model(model.folder):
        for inner in _entries(model.folder):
            if inner.is_dir() and looks_like_a_model(inner):
                yield Finding(inner, Severity.NOTE, "is a model of its own.", f"Choose {inner.name} as the model.")


def _of_parts(model: ModelFolder, *, thorough: bool) -> Iterator[Finding]:
    for part, path in model.files.items():
        try:
            # Where the sizes aren't known, the file can still be judged for being whole and safe.
            targets = () if model.problems else match_part(model, part)
            if model.problems:
                read_weights(path)
            if thorough:
                for file in files_of(path):
                    check_sums(file)
        except FileError as error:
            yield _error(error)
        except WeightsError as error:
            yield Finding(path, Severity.ERROR, error.problem, error.remedy)
        else:
            yield Finding(path, Severity.OK, f"is whole: the {part.value}{_contents(targets)}.")


def _of_leftovers(model: ModelFolder) -> Iterator[Finding]:
    folders = {model.folder, *(path.parent for path in model.files.values())}
    for entry in sorted(entry for folder in folders for entry in _entries(folder)):
        if entry.suffix in LEFTOVER_SUFFIXES:
            yield Finding(
                entry, Severity.WARNING, "is a download that hasn't finished.", "Let it finish, or delete it."
            )
        elif (original := second_copy_of(entry.name)) and (entry.parent / original).exists():
            yield Finding(
                entry, Severity.WARNING, f"is a second copy of {original}.", "Delete the one that isn't needed."
            )


def _contents(targets: tuple[Target, ...]) -> str:
    if not targets:
        return ""
    tensors = [source for target in targets for source in target.sources]
    dtypes = " and ".join(sorted({tensor.dtype for tensor in tensors}))
    return f", {len(tensors):,} tensors, {dtypes}, {count_bytes(targets) / 1e9:.2f} GB"


def check_sums(path: Path) -> None:
    """Raise `FileError` where a record of a torch file isn't what its sum says; other files have none."""
    with opened(path) as file, damage_named(path, "its contents"):
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    if damaged is not None:
        raise FileError(path, f"is damaged: the sum of its record {damaged} is wrong.", remedy=DOWNLOAD_AGAIN)


def _error(problem: FileError) -> Finding:
    return Finding(problem.path, Severity.ERROR, problem.what, problem.remedy)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
