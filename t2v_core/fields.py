"""What one field of a request is: label, limits, help and infotext key; checking and parsing made from that alone.

The rows themselves stand beside their types in `request.GenerationRequest`; every front door is made from them.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from t2v_core.errors import FieldProblem

Choices = Mapping[str, Sequence[str]]
"""The allowed values of each field that names a row of a table, for example {"sampler": ["DDIM", ...]}."""

_SPEC = "spec"


@dataclass(frozen=True, slots=True)
class Spec:
    """One row. `infotext` is the key in the file's metadata, "" where the value doesn't belong there.

    `chosen` fields take one value of a table that is handed in when they are checked, and if they are `several` any
    number of them, with commas between them. `usual` is where a slider ends when the allowed maximum is far beyond what
    people use. `off` is the value at which a field does nothing, and stays out of the infotext. `otherwise` says who
    fills a field that is left open.
    """

    label: str
    help: str
    infotext: str = ""
    minimum: float | None = None
    maximum: float | None = None
    usual: float | None = None
    step: float | None = None
    multiple: int | None = None
    chosen: bool = False
    several: bool = False
    group: str = "Video"
    off: float | None = None
    otherwise: str = "the model's own"


@dataclass(frozen=True, slots=True)
class Field:
    """A row with its name, type and default."""

    name: str
    kind: type
    optional: bool
    default: Any
    spec: Spec

    @property
    def flag(self) -> str:
        """The command line's name of this field."""
        return "--" + self.name.replace("_", "-")

    @property
    def limits(self) -> str:
        """The allowed range in words, "" if every value of the type is allowed."""
        low, high, multiple = self.spec.minimum, self.spec.maximum, self.spec.multiple
        if low is None or high is None:
            return ""
        return f"{low:g} to {high:.12g}" + (f", a multiple of {multiple}" if multiple else "")


def spec(default: Any, label: str, help: str, **rest: Any) -> Any:
    """A dataclass field with its row; for use in the body of `GenerationRequest`."""
    return dataclasses.field(default=default, metadata={_SPEC: Spec(label, help, **rest)})


def fields_of(request_type: type) -> dict[str, Field]:
    """The rows of a request type by name: its own in their order, then those of each of its bases."""
    hints = typing.get_type_hints(request_type)
    rows = {field.name: _row(field, hints[field.name]) for field in dataclasses.fields(request_type)}
    order = (name for owner in request_type.__mro__ for name in inspect.get_annotations(owner))
    return {name: rows[name] for name in order}


def _row(field: dataclasses.Field[Any], hint: Any) -> Field:
    kinds = [hint]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    return Field(field.name, kinds[0], kinds != [hint], field.default, field.metadata[_SPEC])


def problems_in(values: Mapping[str, Any], fields: Mapping[str, Field], choices: Choices) -> Iterator[FieldProblem]:
    """Everything that is wrong with the values, unknown names included, each with its allowed range."""
    for name, value in values.items():
        field = fields.get(name)
        message = _unknown(name, fields) if field is None else _problem(field, value, choices)
        if message:
            yield FieldProblem(name, message)


def parse(field: Field, text: str) -> Any:
    """The value that a person typed, or the text itself where it isn't one; checking then says what is wrong."""
    text = text.strip() if field.kind is not str else text
    if field.kind is bool:
        return {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}.get(
            text.lower(), text
        )
    if field.kind in (int, float):
        try:
            return field.kind(text)
        except ValueError:
            return text
    return text


def names_in(text: str) -> tuple[str, ...]:
    """The names that a field holds which takes several."""
    return tuple(name for name in map(str.strip, text.split(",")) if name)


def closest(value: str, known: Sequence[str]) -> str:
    """A sentence with the known name nearest to a mistyped one, or all of them."""
    lowered = {name.lower(): name for name in known}
    near = difflib.get_close_matches(value.lower(), lowered, n=1, cutoff=0.6)
    return f"Did you mean {lowered[near[0]]!r}?" if near else "Known: " + ", ".join(known) + "."


def _unknown(name: str, fields: Mapping[str, Field]) -> str:
    return f"There is no field {name!r}. {closest(name, list(fields))}"


def _problem(field: Field, value: Any, choices: Choices) -> str:
    if value is None:
        return "" if field.optional else f"{field.spec.label} is missing."
    if not _is(value, field.kind):
        wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[field.kind]
        bounds = f" from {field.limits}" if field.limits else ""
        return f"{field.spec.label} is {wanted}{bounds}, not {value!r}."
    if field.spec.chosen and field.name in choices:
        names = names_in(value) or ("",) if field.spec.several else (value,)
        unknown = [name for name in names if name not in choices[field.name]]
        if unknown:
            return f"{field.spec.label} has no {unknown[0]!r}. {closest(unknown[0], choices[field.name])}"
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            return f"{field.spec.label} names {twice[0]!r} twice."
    low, high, multiple = field.spec.minimum, field.spec.maximum, field.spec.multiple
    outside = (low is not None and value < low) or (high is not None and value > high)
    if outside or (multiple and value % multiple):
        return f"{field.spec.label} must be {field.limits}, not {value:.12g}."
    return ""


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)
