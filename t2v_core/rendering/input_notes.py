"""What a recipe says of the files that a clip was made from, and whether they are still those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from t2v_core.errors import RequestError, UnreadableFileError
from t2v_core.media.fingerprint import fingerprint
from t2v_core.rendering.inputs import Named, check_inputs, paths_in
from t2v_core.request import FIELDS, GenerationRequest


def input_notes(request: GenerationRequest) -> dict[str, str]:
    """The fingerprints of the files that a request names, for its recipe: "Source hash", and so on.

    Raises:
        UnreadableFileError: one is gone.
    """
    digests: dict[str, list[str]] = {}
    for named in paths_in(request):
        digests.setdefault(_key(named), []).append(fingerprint(named.path))
    return {key: " ".join(found) for key, found in digests.items()}


def changed_inputs(
    values: Mapping[str, object], extras: Mapping[str, str], folders: Sequence[Path] | None
) -> list[str]:
    """A sentence for each file of a recipe that is gone, or isn't what it was; `extras` hold its fingerprints.

    What lies outside `folders`, as `check_inputs` has them, isn't looked at.
    """
    texts = {name: value for name, value in values.items() if name in FIELDS}
    request = GenerationRequest(**texts)  # type: ignore[arg-type]  # checked by whoever parsed them
    try:
        check_inputs(request, folders)
        named = list(paths_in(request))
    except RequestError as error:
        return [problem.message for problem in error.problems]
    left = {key: extras.get(key, "").split() for key in {_key(each) for each in named}}
    sentences = []
    for each in named:
        wanted = left[_key(each)].pop(0) if left[_key(each)] else ""
        sentences.append(_sentence(each, wanted))
    return [sentence for sentence in sentences if sentence]


def _key(named: Named) -> str:
    return f"{named.label} hash"


def _sentence(named: Named, wanted: str) -> str:
    name = Path(named.text).name
    try:
        found = fingerprint(named.path)
    except UnreadableFileError as error:
        return f"{named.label}: the recipe's file {name} can't be used: {error.problem} Choose it again."
    if wanted and wanted != found:
        return f"{named.label}: {name} isn't the file that the recipe was made from, so the video will differ."
    return ""
