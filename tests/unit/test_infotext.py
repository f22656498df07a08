from __future__ import annotations

import dataclasses
import json
import math
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2v_core.infotext import format_infotext, parse_infotext
from t2v_core.request import FIELDS, GenerationRequest, ModelDefaults
from t2v_core.speed import EXACT, SPEEDS
from t2v_core.video import ModelIdentity

MODEL = ModelIdentity("t2v", "0123456789")
UNHURRIED = settings(deadline=None, database=None)
VERSIONS = {"txt2video": "0.1.0", "torch": "2.13.0+cpu"}

PROMPTS = [
    "",
    "a cat",
    "a cat, (running:1.2), by night",
    "two\nlines",
    "two\n\n\nlines apart",
    "\n\nleading lines",
    "trailing lines\n\n",
    "  indented",
    "trailing space ",
    "\tline one\n  line two  \n",
    "   ",
    "\n",
    "Negative prompt: x",
    "a\nNegative prompt: x\nb",
    "a\n Negative prompt:",
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512",
    "a\nSteps: 20, Sampler: x, CFG scale: 7",
    'Exact prompt: "no", Steps: 20, Model: y',
    'he said "hi, there": yes',
    '"',
    '"quoted"',
    "back\\slash \\n \\\\ \\",
    "a \U0001f431‍\U0001f680 emoji",
    "一只猫在月球上,跳舞:慢慢地",
    "قطة سوداء \u202eabc\u202c",
    "carriage\r\nreturns\r",
    "nul\0inside",
    "".join(map(chr, range(0x20))) + "\x7f\x80\x85\x9f\xa0",
    "line\u2028separator\u2029\u3000",
    "\ufeffbyte order mark",
    "half a pair \udc80",
    "comma, " * 1500,
    "x\" \\ \n:,=;#'{}[]" * 600,
]


def round_trip(request: GenerationRequest) -> GenerationRequest:
    return GenerationRequest(**parse_infotext(format_infotext(request, MODEL, versions=VERSIONS)).values)


def open_where_off(request: GenerationRequest) -> GenerationRequest:
    """What a recipe says of a request: a field that is off says nothing, as one that is open."""
    off = [name for name, row in FIELDS.items() if row.spec.off is not None and getattr(request, name) == row.spec.off]
    return dataclasses.replace(request, **{name: FIELDS[name].default for name in off})


def webui_reads(text: str) -> dict[str, str]:
    """The WebUI's reading of an infotext, told again from what is known of it."""
    *lines, last = text.strip().split("\n")
    pair = re.compile(r'(?P<key>\w[-\w /]+):\s*(?P<value>"(?:[^"\\]|\\.)+"|[^,]*)(?=,|$)')
    found = {m["key"].strip(): m["value"] for m in pair.finditer(last)}
    assert len(found) >= 3
    result = {key: json.loads(value) if value[:1] == value[-1:] == '"' else value for key, value in found.items()}
    negative_at = next((i for i, line in enumerate(lines) if line.strip().startswith("Negative prompt:")), len(lines))
    result["Prompt"] = "\n".join(line.strip() for line in lines[:negative_at]).lstrip("\n")
    return result


@pytest.mark.parametrize("negative", ["", "blurry", "x\nNegative prompt: y", "\0", " "])
@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: ascii(prompt[:24]))
def test_every_prompt_comes_back_exactly(prompt: str, negative: str):
    request = GenerationRequest(prompt=prompt, negative_prompt=negative).resolve(ModelDefaults())
    assert round_trip(request) == open_where_off(request)
    assert round_trip(request).resolve(ModelDefaults()) == request


@UNHURRIED
@given(prompt=st.text(), negative=st.text())
def test_any_text_comes_back_exactly(prompt: str, negative: str):
    request = GenerationRequest(prompt=prompt, negative_prompt=negative)
    assert round_trip(request) == request


@UNHURRIED
@given(
    prompt=st.lists(
        st.sampled_from(["Negative prompt:", "Steps: 1", "Exact prompt:", '"', "\\", "\n", " ", ",", ":", "a", "\r"])
    ).map("".join),
    negative=st.lists(st.sampled_from(["Negative prompt:", '"', "\\", "\n", " ", ",", "b: 1"])).map("".join),
)
def test_text_that_looks_like_the_format_comes_back_exactly(prompt: str, negative: str):
    request = GenerationRequest(prompt=prompt, negative_prompt=negative, steps=3)
    assert round_trip(request) == request


def value_of(row: Any) -> st.SearchStrategy[Any]:
    low, high, multiple = row.spec.minimum, row.spec.maximum, row.spec.multiple
    if row.kind is bool:
        return st.booleans()
    if row.kind is str:
        return st.text(min_size=1)
    if row.kind is float:
        return st.floats(low, high)
    return st.integers(int(low) // (multiple or 1), int(high) // (multiple or 1)).map(lambda n: n * (multiple or 1))


def numbers_and_names() -> st.SearchStrategy[dict[str, Any]]:
    rows = {name: row for name, row in FIELDS.items() if row.spec.infotext}
    return st.fixed_dictionaries({}, optional={name: value_of(row) for name, row in rows.items()})


@UNHURRIED
@given(numbers_and_names())
def test_every_field_comes_back_equal_and_of_its_type(values: dict[str, Any]):
    request = GenerationRequest(**values)
    again = round_trip(request)
    assert again == open_where_off(request)
    for name, row in FIELDS.items():
        value = getattr(again, name)
        assert value is None or type(value) is row.kind


@pytest.mark.parametrize("speed", SPEEDS)
def test_a_speeds_shortcuts_are_named_and_come_back_whatever_the_speed_sets_by_then(speed: str):
    request = GenerationRequest(prompt="a", speed=speed, attention_window=12).resolve(ModelDefaults())
    text = format_infotext(request, MODEL, versions=VERSIONS)
    assert "Attention window: 12" in text
    assert ("Reuse features: " in text) == (speed != EXACT)
    assert speed not in text
    again = GenerationRequest(**parse_infotext(text).values).resolve(ModelDefaults())
    assert again == dataclasses.replace(request, speed=EXACT)


def test_the_text_reads_as_the_webuis_does():
    request = GenerationRequest(prompt="a cat,\non a roof", negative_prompt="dog", seed=1).resolve(ModelDefaults())
    assert format_infotext(request, MODEL, versions=VERSIONS) == (
        "a cat,\non a roof\nNegative prompt: dog\n"
        "Steps: 25, Sampler: DPM++ 2M, Schedule type: Model, CFG scale: 9, Seed: 1, Size: 256x256, "
        "Model hash: 0123456789, Model: t2v, Frames: 16, FPS: 8, Version: txt2video 0.1.0; torch 2.13.0+cpu"
    )


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: ascii(prompt[:24]))
def test_the_webui_reads_the_settings_whatever_the_prompt(prompt: str):
    request = GenerationRequest(prompt=prompt, negative_prompt=prompt, seed=7).resolve(ModelDefaults())
    read = webui_reads(format_infotext(request, ModelIdentity('a: "b", c', "ff"), versions=VERSIONS))
    assert read["Steps"] == "25"
    assert read["Seed"] == "7"
    assert read["Model"] == 'a: "b", c'
    assert read["Version"] == "txt2video 0.1.0; torch 2.13.0+cpu"
    assert read.get("Exact prompt", read["Prompt"]) == prompt


def test_the_plain_format_is_used_alone_where_it_suffices():
    text = format_infotext(GenerationRequest(prompt="一只猫, a cat:\n\nx"), MODEL)
    assert "Exact" not in text


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: ascii(prompt[:24]))
def test_the_text_fits_into_any_file(prompt: str):
    text = format_infotext(GenerationRequest(prompt=prompt), MODEL, notes={"Note": prompt})
    assert text.encode()
    assert not set(text) & set(map(chr, [*range(9), *range(11, 32), 127]))


def test_model_partial_notes_and_versions_come_back():
    request = GenerationRequest(prompt="x").resolve(ModelDefaults())
    model = ModelIdentity("my, model: \n2", "abc")
    notes = {"Retry": "step 3, in fp32", "Other": "a\nb"}
    parsed = parse_infotext(format_infotext(request, model, partial_steps=7, notes=notes, versions=VERSIONS))
    assert parsed.model == model
    assert parsed.partial == "7 of 25 steps"
    assert parsed.extras == notes
    assert parsed.versions == VERSIONS


@pytest.mark.parametrize("key", ["Steps", "Exact prompt", "a:b", "", "x", "line\nbreak", '"quoted"', "a, b", "-/ "])
def test_a_note_never_hides_a_setting(key: str):
    request = GenerationRequest(prompt="x", steps=9)
    parsed = parse_infotext(format_infotext(request, MODEL, notes={key: "note's value"}))
    assert GenerationRequest(**parsed.values) == request
    assert "note's value" in parsed.extras.values()


def test_an_empty_request_has_a_text_that_parses():
    parsed = parse_infotext(format_infotext(GenerationRequest(), ModelIdentity("", "")))
    assert GenerationRequest(**parsed.values) == GenerationRequest()
    assert parsed.model is None


def test_a_pictures_infotext_gives_what_fits_and_keeps_the_rest():
    parsed = parse_infotext(
        "(masterpiece:1.2), a cat\r\nNegative prompt: ugly,\nbad\n"
        "Steps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7.5, Seed: 965400086, Size: 512x768, "
        'Model hash: 45dee52b, Model: sd, Denoising strength: 0.4, Lora hashes: "a: 12, b: 34", '
        "ADetailer version: 24.5, Clip skip: 2, Version: v1.10.1"
    )
    assert parsed.values == {
        "prompt": "(masterpiece:1.2), a cat",
        "negative_prompt": "ugly,\nbad",
        "steps": 20,
        "sampler": "Euler a",
        "schedule": "Automatic",
        "cfg_scale": 7.5,
        "seed": 965400086,
        "width": 512,
        "height": 768,
    }
    assert parsed.model == ModelIdentity("sd", "45dee52b")
    assert parsed.versions == {}
    assert parsed.extras == {
        "Denoising strength": "0.4",
        "Lora hashes": "a: 12, b: 34",
        "ADetailer version": "24.5",
        "Clip skip": "2",
        "Version": "v1.10.1",
    }


@pytest.mark.parametrize(
    "pair",
    [
        "Steps: many",
        "Steps: 0",
        "Steps: " + "9" * 5000,
        "Seed: 1e400",
        "Seed: -7",
        "CFG scale: nan",
        "CFG scale: inf",
        "FPS: 1e308",
        "Size: 513x512",
        "Size: 512",
        "Size: 99999999x8",
        "Sampler: ",
    ],
)
def test_impossible_values_become_extras(pair: str):
    key, _, value = pair.partition(": ")
    parsed = parse_infotext(f"a cat\n{pair}, Eta: 0.5, Frames: 3")
    assert parsed.values == {"prompt": "a cat", "negative_prompt": "", "eta": 0.5, "frames": 3}
    assert parsed.extras == {key: value}


@pytest.mark.parametrize("text", ["", "a cat", "x: 1\nSteps: 20, Seed: 3", "\n\n", "Negative prompt:", ":::", ",,,"])
def test_a_text_without_settings_is_a_prompt(text: str):
    assert set(parse_infotext(text).values) == {"prompt", "negative_prompt"}


@UNHURRIED
@given(st.text(alphabet='aA1 :,"\\\n-/_x{}'))
def test_nothing_raises(text: str):
    parse_infotext(text)


@pytest.mark.parametrize(
    "unit",
    ['a: "', "a", " ", '"', "\\", ",", ":", "aa: ", 'aa: "x', 'aa: "\\', "aa: ,", "a-/ ", "Size: 1x", "\n", "aa: {",
     "[", "Negative prompt:", "Negative prompt:\n", '\\"', "aa:\t", 'aa: "[[', 'aa: "\\u'],
)  # fmt: skip
@pytest.mark.parametrize("shape", ["{}", "Steps: 1, Seed: 2, Eta: 0, {}", 'Steps: 1, Seed: 2, Eta: 0, x x: "{}'])
def test_a_hostile_megabyte_takes_linear_time(shape: str, unit: str):
    text = shape.format(unit * (1_000_000 // len(unit)))
    began = time.process_time()
    parse_infotext(text)
    assert time.process_time() - began < 5


def test_numbers_are_written_shortest_and_read_back_equal():
    for value in (7.0, 7.5, 1.1 + 2.2, math.nextafter(1, 2), 29.97, 23.976):
        assert round_trip(GenerationRequest(cfg_scale=value)).cfg_scale == value
    assert "CFG scale: 7," in format_infotext(GenerationRequest(cfg_scale=7.0), MODEL)


@pytest.mark.parametrize("window", [None, 0, 8, 48])
@pytest.mark.parametrize("frames", [16, 32, 33, 100])
def test_a_clips_windows_come_back_as_they_were(frames, window):
    request = GenerationRequest(prompt="a", frames=frames, window=window).resolve(ModelDefaults())
    again = round_trip(request).resolve(ModelDefaults())
    assert (again.window, again.window_overlap) == (request.window, request.window_overlap)


@pytest.mark.parametrize("tile", [None, 0, 64])
def test_a_second_pass_tiles_come_back_as_they_were(tile):
    assert round_trip(GenerationRequest(prompt="a", refine=2.0, tile=tile, steps=3, seed=1)).tile == tile
