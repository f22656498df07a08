"""A request is checked whole, before any work, and says everything that is wrong with it."""

from __future__ import annotations

import math

import pytest

from t2v_core.errors import RequestError
from t2v_core.fields import parse
from t2v_core.request import FIELDS, LARGEST_SEED, GenerationRequest, ModelDefaults

CHOICES = {
    "sampler": ("DDIM", "DPM++ 2M"),
    "schedule": ("Model", "Karras"),
    "format": ("mp4",),
    "preset": ("medium",),
    "precision": ("auto", "fp32"),
}


def problems(**values):
    with pytest.raises(RequestError) as caught:
        GenerationRequest.from_dict(values, choices=CHOICES)
    return {problem.field: problem.message for problem in caught.value.problems}


def test_every_problem_is_reported_at_once():
    found = problems(steps=0, width=13, sampler="DPM2", fps=math.nan, seed=True, wdith=8, prompt=5, split_guidance="no")
    assert set(found) == {"steps", "width", "sampler", "fps", "seed", "wdith", "prompt", "split_guidance"}


@pytest.mark.parametrize("field", [field for field in FIELDS.values() if field.limits], ids=lambda field: field.name)
def test_limits_are_kept_and_named(field):
    low, high = field.spec.minimum, field.spec.maximum
    for value in (low, high):
        request = GenerationRequest.from_dict({field.name: field.kind(value)}, choices=CHOICES)
        assert getattr(request, field.name) == value
    for value in (field.kind(low - (field.spec.multiple or 1)), field.kind(high + (field.spec.multiple or 1))):
        message = problems(**{field.name: value})[field.name]
        assert field.spec.label in message
        assert f"{low:g} to " in message


@pytest.mark.parametrize("field", FIELDS.values(), ids=lambda field: field.name)
def test_every_field_has_a_label_and_help_and_refuses_other_types(field):
    assert field.spec.label
    assert field.spec.help.endswith((".", "noise."))
    assert field.name in problems(**{field.name: ["a list"]})
    assert field.name in problems(**{field.name: b"bytes"})


def test_labels_and_infotext_keys_are_unique():
    labels = [field.spec.label for field in FIELDS.values()]
    keys = [field.spec.infotext for field in FIELDS.values() if field.spec.infotext]
    assert len(set(labels)) == len(labels)
    assert len(set(keys)) == len(keys)


def test_a_mistyped_name_is_answered_with_the_nearest_one():
    assert "'width'" in problems(wdith=8)["wdith"]
    assert "'DPM++ 2M'" in problems(sampler="DPM++2M")["sampler"]


@pytest.mark.parametrize("value", [True, 1.5, "7", float("inf"), None])
def test_a_whole_number_is_nothing_else(value):
    assert "seed" in problems(seed=value)


def test_open_fields_take_the_models_own_values_and_given_ones_stay():
    defaults = ModelDefaults(steps=7, width=64, height=32)
    resolved = GenerationRequest(prompt="x", height=128).resolve(defaults)
    assert (resolved.steps, resolved.width, resolved.height) == (7, 64, 128)
    still_open = {name for name in FIELDS if getattr(resolved, name) is None}
    assert still_open == {"eta", "output_fps", "window", "window_overlap", "refine_steps", "tile"}, (
        "who uses these knows what None means"
    )


def test_a_request_survives_its_dict():
    request = GenerationRequest(prompt="a\nb", seed=LARGEST_SEED, steps=3, eta=0.5)
    assert GenerationRequest.from_dict(request.to_dict(), choices=CHOICES) == request


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("steps", " 12 ", 12),
        ("steps", "12.5", "12.5"),
        ("cfg_scale", "7.5", 7.5),
        ("cfg_scale", "nan", "nan"),
        ("split_guidance", "Yes", True),
        ("prompt", " kept as it is ", " kept as it is "),
    ],
)
def test_typed_text_becomes_a_value_or_stays_for_the_check(name, text, value):
    parsed = parse(FIELDS[name], text)
    assert parsed == value or (value == "nan" and math.isnan(parsed))
    assert type(parsed) is type(value) or value == "nan"
