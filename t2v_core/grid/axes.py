"""The axes of a grid: which field takes which values, as text, and the clips that they make."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from t2v_core.fields import Field, closest, parse
from t2v_core.finish_fields import COMPARE
from t2v_core.grid import MOST_CELLS, Cell, Sheet
from t2v_core.request import FIELDS, GenerationRequest, problem

REPLACE = "replace"
"""The axis that is no field: its first value is looked for in the prompts, and each of its values put there."""

MOST_AXES = 3
EXAMPLE = 'Write it as in "steps=10,25; seed=1-3".'

_NEVER = {"count", "format"} | {name for name, field in FIELDS.items() if field.spec.group == COMPARE}
_SLOW = ("model", "lora", "precision", "vae_precision")
"""Fields whose change loads weights: they change as seldom as possible."""

_PART = re.compile(r'"(?:[^"]|"")*"|[^;,"]+|[;,]|"')
_NUMBER = r"(-?\d{1,12}(?:\.\d{1,12})?)"
_RANGE = re.compile(rf"{_NUMBER}\s*-\s*{_NUMBER}(?:\s*(?:\(\s*\+?{_NUMBER}\s*\)|\[\s*(\d{{1,3}})\s*\]))?")


@dataclass(frozen=True, slots=True)
class Axis:
    """One field, or `REPLACE`, and the values that it takes in turn, two at least in a grid worth its name."""

    name: str
    values: tuple[Any, ...]

    @property
    def titles(self) -> tuple[str, ...]:
        """What stands beside the cells of each value."""
        if self.name in ("prompt", REPLACE):
            return tuple(str(value) or "(nothing)" for value in self.values)
        label = FIELDS[self.name].spec.label
        return tuple(f"{label}: {_shown(value)}" for value in self.values)

    def applied(self, request: GenerationRequest, value: Any) -> GenerationRequest:
        """The request with one of the values."""
        if self.name != REPLACE:
            return request.with_field(self.name, value)
        wanted = self.values[0]
        texts = {name: getattr(request, name).replace(wanted, value) for name in ("prompt", "negative_prompt")}
        return dataclasses.replace(request, **texts)


def grid_of(request: GenerationRequest) -> Sheet:
    """The grid that the field `over` asks for: columns, rows and blocks, in the order of its axes.

    Raises:
        RequestError: the field can't be read, or there would be too many clips.
    """
    axes = parse_axes(request.over)
    if request.count != 1:
        raise problem("count", "A grid makes one clip a cell: leave Clips at 1, and give it an axis of seeds.")
    cells = 1
    for axis in axes:
        cells *= len(axis.values)
    if cells > MOST_CELLS:
        raise problem("over", f"A grid has at most {MOST_CELLS} clips, and this would be one of {cells}.")
    _check_replace(request, axes)
    plain = dataclasses.replace(request, over="")
    columns, rows, blocks = [*axes, *[None] * (MOST_AXES - len(axes))]
    found = tuple(_cells(plain, columns, rows, blocks))
    titles = [axis.titles if axis else ("",) for axis in (blocks, rows, columns)]
    return Sheet(request, found, *titles, kind="grid", keeps_singles=True)


def parse_axes(text: str) -> tuple[Axis, ...]:
    """The axes that a text says: `name=value,value; name=value,value`.

    A value with a comma, semicolon or quote stands in double quotes, in which a quote is doubled. Numbers may be a
    range: `1-4`, `10-30 (+10)` with a step, `4-12 [3]` with so many values.

    Raises:
        RequestError: with the axis that is wrong, and why.
    """
    axes = [_axis(parts) for parts in _split(text)]
    if not axes:
        raise problem("over", f"A grid needs a field to go over. {EXAMPLE}")
    if len(axes) > MOST_AXES:
        raise problem("over", f"A grid goes over at most {MOST_AXES} fields, not {len(axes)}.")
    names = [axis.name for axis in axes]
    for name in names:
        if names.count(name) > 1:
            raise problem("over", f"A grid can't go over {name} twice: put all its values into one axis.")
    return tuple(axes)


def axes_text(axes: Mapping[str, Any]) -> str:
    """The text that `parse_axes` reads back, of values by field name."""

    def written(value: Any) -> str:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        plain = text == text.strip() and text and not re.search(r'[",;]', text) and not _RANGE.fullmatch(text)
        return text if plain else '"' + text.replace('"', '""') + '"'

    def several(values: Any) -> Sequence[Any]:
        return values if isinstance(values, (list, tuple)) else [values]

    return "; ".join(f"{name}={','.join(map(written, several(values)))}" for name, values in axes.items())


def _split(text: str) -> Iterator[list[tuple[str, bool]]]:
    """For each axis its values, the first with the name before it; each with whether it was quoted."""
    values: list[tuple[str, bool]] = []
    current, quoted = "", False
    for match in itertools.chain(_PART.finditer(text.replace("\n", ";")), [None]):
        part = ";" if match is None else match.group()
        if part in (";", ","):
            values.append((current if quoted else current.strip(), quoted))
            current, quoted = "", False
            if part == ";":
                if values != [("", False)]:
                    yield values
                values = []
        elif part.startswith('"') and len(part) > 1:
            current = current.strip() + part[1:-1].replace('""', '"')
            quoted = True
        else:
            current += "" if quoted and not part.strip() else part
    return


def _axis(parts: list[tuple[str, bool]]) -> Axis:
    first, quoted = parts[0]
    name, equals, value = first.partition("=")
    if not equals:
        raise problem("over", f"There is no = in {_short(first)!r}. {EXAMPLE}")
    name = _name(name.strip())
    value = value if quoted else value.strip()
    values = [(value, quoted), *parts[1:]]
    if values == [("", False)]:
        raise problem("over", f"There are no values of {name}. {EXAMPLE}")
    if name == REPLACE:
        return Axis(name, tuple(text for text, _ in values))
    field = FIELDS[name]
    return Axis(name, tuple(value for text, quoted in values for value in _values(field, text, quoted=quoted)))


def _name(name: str) -> str:
    """The field that a person means by its name, flag or label."""
    known = {each: each for each in FIELDS} | {field.spec.label.lower(): each for each, field in FIELDS.items()}
    wanted = name.lower().lstrip("-").replace("-", "_")
    found = REPLACE if wanted == REPLACE else known.get(wanted, known.get(name.lower()))
    if found is None:
        raise problem("over", f"A grid can't go over {_short(name)!r}. {closest(wanted[:50], [REPLACE, *FIELDS])}")
    if found in _NEVER:
        raise problem("over", f"A grid can't go over {found}: {FIELDS[found].spec.label} is of all its clips.")
    return found


def _values(field: Field, text: str, *, quoted: bool) -> list[Any]:
    match = None if quoted or field.kind not in (int, float) else _RANGE.fullmatch(text)
    if match is None:
        return [None if field.optional and not text else parse(field, text)]
    low, high = Fraction(match[1]), Fraction(match[2])
    if match[4] is not None:
        count = int(match[4])
        if not 1 <= count <= MOST_CELLS:
            raise problem("over", f"{text!r} asks for {count} values; a grid has 1 to {MOST_CELLS} clips.")
        places = [low + (high - low) * index / max(1, count - 1) for index in range(count)]
    else:
        step = abs(Fraction(match[3] or 1)) * (1 if high >= low else -1)
        if step == 0 or (high - low) / step >= MOST_CELLS:
            raise problem("over", f"{text!r} has too many values: a grid has at most {MOST_CELLS} clips.")
        places = [low + step * index for index in range(int((high - low) / step) + 1)]
    return [round(place) if field.kind is int else float(place) for place in places]


def _cells(request: GenerationRequest, columns: Axis, rows: Axis | None, blocks: Axis | None) -> Iterator[Cell]:
    """Every combination; those that need the same weights stand together."""
    found = []
    for block, third in enumerate(blocks.values if blocks else [None]):
        for row, second in enumerate(rows.values if rows else [None]):
            for column, first in enumerate(columns.values):
                made = request
                for axis, value in ((columns, first), (rows, second), (blocks, third)):
                    made = axis.applied(made, value) if axis else made
                found.append(Cell(made, (block, row, column)))
    weights = [tuple(getattr(cell.request, name) for name in _SLOW) for cell in found]
    return iter(sorted(found, key=lambda cell: weights.index(tuple(getattr(cell.request, name) for name in _SLOW))))


def _check_replace(request: GenerationRequest, axes: Sequence[Axis]) -> None:
    for axis in axes:
        if axis.name == REPLACE and (
            not axis.values[0] or axis.values[0] not in request.prompt + request.negative_prompt
        ):
            raise problem(
                "over", f"{_short(axis.values[0])!r} stands in no prompt, so nothing can be put in its place."
            )


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"


def _shown(value: Any) -> str:
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
