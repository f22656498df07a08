"""The components of the request's fields, made from the one table of fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from t2v_core.fields import Field, names_in, parse
from t2v_core.frontends.tab.surroundings import TAB_ID
from t2v_core.request import FIELDS, GenerationRequest
from t2v_core.service import CHOICES

DECIMALS = 6
"""Sliders hand over binary fractions of their steps; a field's value has no more decimals than this."""


def component_of(
    name: str, value: Any, *, choices: Sequence[str] = (), is_free: bool = False, scale: int = 1, hint: str = ""
) -> Any:
    """The component of one field, showing `value`; `choices` are of fields that have no fixed table, as the model.

    With `is_free` anything else can be typed as well. `hint` stands in an empty box of text.
    """
    field = FIELDS[name]
    spec = field.spec
    common: dict[str, Any] = {"label": spec.label, "elem_id": f"{TAB_ID}_{name}", "value": shown(name, value)}
    choices = choices or CHOICES.get(name, ())
    if choices:
        several = {"multiselect": True} if spec.several else {}
        return gr.Dropdown(choices=list(choices), allow_custom_value=is_free, scale=scale, **several, **common)
    if field.kind is bool:
        return gr.Checkbox(**common)
    if field.kind is str:
        return gr.Textbox(max_lines=1, scale=scale, placeholder=hint or None, **common)
    # Only a box of text can be empty in every version, which stands for what a sampler does by itself.
    if value is None:
        return gr.Textbox(max_lines=1, placeholder="auto", scale=scale, **{**common, "value": ""})
    if _is_wide(field):
        return gr.Number(scale=scale, precision=0 if field.kind is int else None, **common)
    assert spec.minimum is not None
    assert spec.maximum is not None
    return gr.Slider(minimum=spec.minimum, maximum=spec.usual or spec.maximum, step=spec.step, scale=scale, **common)


def shown(name: str, value: Any) -> Any:
    """A field's value as its component takes it: the names of a field that has several are a list.

    None is an empty dropdown, or an empty box of text, which doesn't show 20 as 20.0.
    """
    if FIELDS[name].spec.several and isinstance(value, str):
        return list(names_in(value))
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return "" if value is None and name not in CHOICES else value


def request_of(values: Mapping[str, Any]) -> GenerationRequest:
    """The request that the components' values say.

    Raises:
        RequestError: with every problem.
    """
    return GenerationRequest.from_dict(
        {name: _value(FIELDS[name], raw) for name, raw in values.items()}, choices=CHOICES
    )


def _value(field: Field, raw: Any) -> Any:
    """What a component holds as the field's type; what can't be one stays as it is, and the check names it."""
    if field.spec.several and isinstance(raw, (list, tuple)):
        raw = ", ".join(map(str, raw)) or field.default
    if field.kind is str:
        return raw or (None if field.optional else "")
    if raw is None or raw == "":
        return None if field.optional else field.default
    if isinstance(raw, str):
        return parse(field, raw)
    if isinstance(raw, bool) or not isinstance(raw, (int, float)):
        return raw
    if field.kind is int:
        return int(raw) if float(raw).is_integer() else raw
    return round(float(raw), DECIMALS)


def _is_wide(field: Field) -> bool:
    """Whether a slider couldn't hit the values of a range so wide, such as the seed's."""
    low, high = field.spec.minimum, field.spec.maximum
    return low is not None and high is not None and high - low > 10**6
