"""A request and its model as the WebUI's infotext, the text in a file's metadata, and back again, exactly.

The WebUI's format is: the prompt's lines, a line `Negative prompt: …`, and a last line of `Key: value` pairs, in which
a value with a comma, colon or newline is a JSON string. Keys stand in `request.FIELDS`. Some prompts don't survive
that (lines are stripped, a line may look like the negative prompt's): these are given once more, as JSON, under a key
of their own, which the WebUI passes over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from t2v_core.fields import Field, parse, problems_in
from t2v_core.request import FIELDS, GenerationRequest
from t2v_core.video import ModelIdentity

PROGRAM = "txt2video"

_NEGATIVE = "Negative prompt:"
_EXACT = {"prompt": "Exact prompt", "negative_prompt": "Exact negative prompt"}
_SIZE, _HASH, _MODEL, _PARTIAL, _VERSION = "Size", "Model hash", "Model", "Partial", "Version"
_BY_KEY = {field.spec.infotext: field for field in FIELDS.values() if field.spec.infotext}
_OURS = {*_BY_KEY, *_EXACT.values(), _SIZE, _HASH, _MODEL, _PARTIAL, _VERSION}

# A text with fewer pairs in its last line is a prompt and nothing else: the WebUI's own rule.
_FEWEST_PAIRS = 3
# No number of ours is longer; longer ones would take Python's int() long, or fail in formatting.
_LONGEST_NUMBER = 32

# Neither of these has two ways to match the same text, so both take linear time on any input.
_QUOTED = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
_SIZE_VALUE = re.compile(r"(\d{1,6})x(\d{1,6})")
# What metadata or a text file can't hold: control characters but tab and newline, and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ParsedInfotext:
    """What an infotext says.

    `values` are fields of `GenerationRequest`, each of the right type and in its range (a name from a table, such as
    the sampler's, may still be one that we don't have). `model` is None if the text names none. `partial` is "7 of 25
    steps" for a video that was stopped, else "". `versions` are ours only. `extras` holds every other pair as text: our
    own notes, other programs' keys, and known keys with impossible values.
    """

    values: dict[str, Any]
    model: ModelIdentity | None = None
    partial: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    extras: dict[str, str] = field(default_factory=dict)


def format_infotext(
    request: GenerationRequest,
    model: ModelIdentity,
    *,
    partial_steps: int | None = None,
    notes: Mapping[str, str] | None = None,
    versions: Mapping[str, str] | None = None,
) -> str:
    """The infotext of a clip: one line or more, no control characters but newline and tab.

    Fields at their default, or off, are left out, which says the same. `partial_steps` is how many of the request's
    steps a stopped clip got. `notes` become further pairs. `versions` is program → version, ours under "txt2video".
    """
    pairs = dict(_request_pairs(request, model))
    if len(pairs) < _FEWEST_PAIRS:
        pairs = dict(_request_pairs(request, model, defaults_too=True))
    if partial_steps is not None:
        pairs[_PARTIAL] = f"{partial_steps} of {request.steps} steps"
    for key, value in (notes or {}).items():
        pairs[_note_key(key)] = value
    pairs[_VERSION] = _version_text(versions or {})

    prompts = _plain(request.prompt)
    if request.negative_prompt:
        prompts += f"\n{_NEGATIVE} {_plain(request.negative_prompt)}"
    read_back = _prompts_in(prompts.lstrip().split("\n"))
    exact = {
        key: json.dumps(getattr(request, name))
        for name, key in _EXACT.items()
        if read_back[name] != getattr(request, name)
    }
    written = {key: _quote(value) for key, value in pairs.items()} | exact
    last_line = ", ".join(f"{key}: {value}" for key, value in written.items())
    return f"{prompts}\n{last_line}".strip()


def parse_infotext(text: str) -> ParsedInfotext:
    """Read an infotext, ours or another program's; never raises, and takes linear time."""
    *lines, last = text.strip().split("\n")
    pairs = dict(_pairs_in(last))
    if len(pairs) < _FEWEST_PAIRS:
        lines, pairs = [*lines, last], {}
    values: dict[str, Any] = _prompts_in(lines)
    values |= {name: pairs.pop(key) for name, key in _EXACT.items() if key in pairs}

    name, digest = pairs.pop(_MODEL, ""), pairs.pop(_HASH, "")
    model = ModelIdentity(name=name, hash=digest) if name or digest else None
    extras = {}
    for key, value in pairs.items():
        found = _size(value) if key == _SIZE else _value(_BY_KEY.get(key), value)
        values |= found
        if not found:
            extras[key] = value
    versions = _versions_in(extras.get(_VERSION, ""))
    if versions:
        del extras[_VERSION]
    return ParsedInfotext(values, model, extras.pop(_PARTIAL, ""), versions, extras)


def _request_pairs(
    request: GenerationRequest, model: ModelIdentity, *, defaults_too: bool = False
) -> Iterator[tuple[str, str]]:
    sized = request.width is not None and request.height is not None
    for key, row in _BY_KEY.items():
        value = getattr(request, row.name)
        if sized and row.name == "width":
            yield _SIZE, f"{request.width}x{request.height}"
        elif sized and row.name == "height":
            pass
        elif value not in (None, row.spec.off) and (defaults_too or value != row.default):
            yield key, _written(value)
        if row.name == "height":
            yield from ((key, value) for key, value in ((_HASH, model.hash), (_MODEL, model.name)) if value)


def _written(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


def _quote(value: str) -> str:
    """The value as it is if that reads back, else as a JSON string; never empty, which the WebUI can't read."""
    reads_back = value == value.strip() and not any(char in value for char in ',:\n"')
    if value and reads_back and not _UNPRINTABLE.search(value):
        return value
    return json.dumps(value, ensure_ascii=bool(_UNPRINTABLE.search(value)))


def _note_key(key: str) -> str:
    """A key that can be read back: a note must never cost the video that it belongs to."""
    key = "".join(char if _may_be_in_key(char) else " " for char in key).strip(" -/")
    return key if len(key) > 1 and key not in _OURS else f"Note {key}".strip()


def _version_text(versions: Mapping[str, str]) -> str:
    ours = f"{PROGRAM} {versions.get(PROGRAM, '')}".strip()
    return "; ".join([ours, *(f"{name} {version}" for name, version in versions.items() if name != PROGRAM)])


def _versions_in(text: str) -> dict[str, str]:
    if text.partition(" ")[0].rstrip(";") != PROGRAM:
        return {}
    parts = (part.rpartition(" ") for part in text.split("; "))
    return {name: version for name, _, version in parts if name}


def _plain(prompt: str) -> str:
    return _UNPRINTABLE.sub(" ", prompt)


def _prompts_in(lines: list[str]) -> dict[str, str]:
    """Prompt and negative prompt, by the WebUI's rules: lines stripped, empty ones at the beginning dropped."""
    found: dict[str, list[str]] = {"prompt": [], "negative_prompt": []}
    name = "prompt"
    for line in lines:
        stripped = line.strip()
        if stripped.startswith(_NEGATIVE):
            name = "negative_prompt"
            stripped = stripped.removeprefix(_NEGATIVE).strip()
        if stripped or found[name]:
            found[name].append(stripped)
    return {name: "\n".join(parts) for name, parts in found.items()}


def _pairs_in(line: str) -> Iterator[tuple[str, str]]:
    """Each `Key: value` of a line. A colon after something that can't be a key is passed over."""
    position = 0
    while (colon := line.find(":", position)) >= 0:
        start = colon
        while start > position and _may_be_in_key(line[start - 1]):
            start -= 1
        key = line[start:colon].strip(" -/")
        position = colon + 1
        if len(key) > 1:
            value, position = _value_at(line, position)
            yield key, value


def _value_at(line: str, position: int) -> tuple[str, int]:
    """The value that begins after a colon, and where the next pair may begin."""
    while position < len(line) and line[position].isspace():
        position += 1
    comma = line.find(",", position)
    end = len(line) if comma < 0 else comma
    quoted = _QUOTED.match(line, position)
    if quoted and (quoted.end() == len(line) or line[quoted.end()] == ","):
        try:
            return json.loads(quoted.group()), quoted.end() + 1
        except ValueError:
            return quoted.group(), quoted.end() + 1
    return line[position:end].strip(), end + 1


def _may_be_in_key(char: str) -> bool:
    return char.isalnum() or char in "_ -/"


def _size(text: str) -> dict[str, int]:
    match = _SIZE_VALUE.fullmatch(text)
    if match is None:
        return {}
    size = {"width": int(match[1]), "height": int(match[2])}
    return {} if any(problems_in(size, FIELDS, {})) else size


def _value(row: Field | None, text: str) -> dict[str, Any]:
    """One field's value by its name, nothing if the text can't be one."""
    if row is None or not text or (row.kind is not str and len(text) > _LONGEST_NUMBER):
        return {}
    found = {row.name: parse(row, text)}
    return {} if any(problems_in(found, FIELDS, {})) else found
