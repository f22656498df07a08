"""What a grid goes over, as text, and what drafts are picked, as text."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2v_core.errors import RequestError
from t2v_core.grid import MOST_CELLS
from t2v_core.grid.axes import Axis, axes_text, grid_of, parse_axes
from t2v_core.grid.drafts import columns_for, drafts_of, picked, picked_of
from t2v_core.request import LARGEST_SEED, GenerationRequest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps=10,25", [("steps", (10, 25))]),
        (" steps = 10 , 25 ; seed=1,2,3;", [("steps", (10, 25)), ("seed", (1, 2, 3))]),
        ("seed=1-4", [("seed", (1, 2, 3, 4))]),
        ("seed=4-1", [("seed", (4, 3, 2, 1))]),
        ("seed=1-3,7", [("seed", (1, 2, 3, 7))]),
        ("steps=10-30 (+10)", [("steps", (10, 20, 30))]),
        ("cfg_scale=4-12 [3]", [("cfg_scale", (4.0, 8.0, 12.0))]),
        ("cfg_scale=1-2(+0.25)", [("cfg_scale", (1.0, 1.25, 1.5, 1.75, 2.0))]),
        ("CFG scale=7", [("cfg_scale", (7.0,))]),
        ("--cfg-scale=7", [("cfg_scale", (7.0,))]),
        ("seed=-1,5", [("seed", (-1, 5))]),
        ("eta=,0.5", [("eta", (None, 0.5))]),
        ("ping_pong=on,off", [("ping_pong", (True, False))]),
        ("sampler=DPM++ 2M,Euler a", [("sampler", ("DPM++ 2M", "Euler a"))]),
        ('prompt="a red ball, left","a ""blue"" box; up"', [("prompt", ("a red ball, left", 'a "blue" box; up'))]),
        ('prompt=a,""', [("prompt", ("a", ""))]),
        ("prompt=ein Ball,红色的球", [("prompt", ("ein Ball", "红色的球"))]),
        ("replace=ball,box", [("replace", ("ball", "box"))]),
        ("steps=1\nseed=2", [("steps", (1,)), ("seed", (2,))]),
        ("prompt=a=b,c", [("prompt", ("a=b", "c"))]),
    ],
)
def test_axes_are_read(text, expected):
    assert [(axis.name, axis.values) for axis in parse_axes(text)] == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs a field"),
        (";;", "needs a field"),
        ("steps", "no ="),
        ("steps=", "no values"),
        ("stepps=1", "steps"),
        ("count=1,2", "count"),
        ("format=mp4,gif", "format"),
        ("over=1", "over"),
        ("steps=1;steps=2", "twice"),
        ("steps=1;seed=1;eta=0;frames=8", "at most 3"),
        ("seed=1-100000", "too many"),
        ("cfg_scale=1-2(+0)", "too many"),
        ("steps=1-9 [0]", "1 to"),
    ],
)
def test_what_is_wrong_is_said(text, said):
    with pytest.raises(RequestError, match=said) as caught:
        parse_axes(text)
    assert caught.value.problems[0].field == "over"


@given(
    st.dictionaries(
        st.sampled_from(["prompt", "negative_prompt", "replace"]),
        st.lists(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))), min_size=1, max_size=4),
        min_size=1,
        max_size=3,
    )
)
def test_any_texts_come_back(axes):
    assert {axis.name: list(axis.values) for axis in parse_axes(axes_text(axes))} == axes


def test_json_values_become_text():
    text = axes_text({"steps": [10, 25], "ping_pong": [True, False], "sampler": "DDIM"})
    assert [axis.values for axis in parse_axes(text)] == [(10, 25), (True, False), ("DDIM",)]


@given(st.text())
def test_no_text_makes_it_fail_otherwise(text):
    with contextlib.suppress(RequestError):
        parse_axes(text)


@pytest.mark.parametrize(
    "text",
    ['"' * 20_001, 'prompt="a' * 9_999, "steps=" + "1-" * 9_999, "cfg_scale=0." + "1" * 9_999 + "-2", "x" * 20_000],
)
def test_a_text_made_to_take_long_is_read_or_refused_in_a_sentence(text):
    said = ""
    try:
        parse_axes(text)
    except RequestError as error:
        said = str(error)
    assert len(said) < 1000


def test_columns_rows_and_blocks_hold_every_combination():
    sheet = grid_of(GenerationRequest(prompt="p", over="steps=1,2,3; seed=5,6; cfg_scale=1,9"))
    assert sheet.columns == ("Steps: 1", "Steps: 2", "Steps: 3")
    assert sheet.rows == ("Seed: 5", "Seed: 6")
    assert sheet.blocks == ("CFG scale: 1", "CFG scale: 9")
    found = {cell.place: (cell.request.cfg_scale, cell.request.seed, cell.request.steps) for cell in sheet.cells}
    assert found[1, 0, 2] == (9.0, 5, 3)
    assert len(found) == len(sheet.cells) == 12
    assert all(cell.request.over == "" for cell in sheet.cells)


def test_weights_change_as_seldom_as_possible():
    sheet = grid_of(GenerationRequest(over="model=a,b; seed=1,2"))
    assert [cell.request.model for cell in sheet.cells] == ["a", "a", "b", "b"]


def test_words_are_replaced_in_both_prompts():
    sheet = grid_of(GenerationRequest(prompt="a red ball", negative_prompt="blue ball", over="replace=ball,box,"))
    assert [(cell.request.prompt, cell.request.negative_prompt) for cell in sheet.cells] == [
        ("a red ball", "blue ball"),
        ("a red box", "blue box"),
        ("a red ", "blue "),
    ]
    assert sheet.columns[-1] == "(nothing)"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"over": "replace=cat,dog", "prompt": "a ball"}, "cat"),
        ({"over": "seed=1-30;steps=1-30"}, str(MOST_CELLS)),
        ({"over": "steps=1,2", "count": 3}, "Clips"),
    ],
)
def test_grids_that_cannot_be(fields, said):
    with pytest.raises(RequestError, match=said):
        grid_of(GenerationRequest(**fields))


def test_titles_say_what_is_off_and_left_open():
    assert Axis("eta", (None, 0.5)).titles == ("Eta: auto", "Eta: 0.5")
    assert Axis("ping_pong", (True, False)).titles == ("Ping-pong: on", "Ping-pong: off")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", [3]),
        ("3, 7", [3, 7]),
        ("7 3", [7, 3]),
        ("2-4;9", [2, 3, 4, 9]),
        ("4 - 2", [4, 3, 2]),
        ("1,1", [1]),
        ("", []),
    ],
)
def test_picks_are_read(text, expected):
    assert picked(text, among=9) == expected


@pytest.mark.parametrize("text", ["0", "10", "a", "3,x", "1-10", "-1", "1.5", "99999"])
def test_picks_that_are_none(text):
    with pytest.raises(RequestError) as caught:
        picked(text, among=9)
    assert caught.value.problems[0].field == "pick"


def test_drafts_are_the_clips_in_few_steps_and_picks_the_clips_themselves():
    request = GenerationRequest(prompt="p", seed=LARGEST_SEED, steps=25, drafts=5, frames=8, width=64, height=64)
    sheet = drafts_of(request, steps=25)
    assert [cell.request.seed for cell in sheet.cells] == [LARGEST_SEED, 0, 1, 2, 3]
    assert {cell.request.steps for cell in sheet.cells} == {request.draft_steps}
    assert [cell.caption for cell in sheet.cells][:2] == [f"1: seed {LARGEST_SEED}", "2: seed 0"]
    assert not sheet.keeps_singles
    two = picked_of(GenerationRequest(prompt="p", seed=LARGEST_SEED, steps=25, drafts=5, pick="2,1"))
    assert two == [
        GenerationRequest(prompt="p", seed=0, steps=25),
        GenerationRequest(prompt="p", seed=LARGEST_SEED, steps=25),
    ]


def test_a_draft_never_takes_more_steps_than_the_clip():
    sheet = drafts_of(GenerationRequest(drafts=2, seed=1), steps=4)
    assert {cell.request.steps for cell in sheet.cells} == {4}


@pytest.mark.parametrize(("fields", "said"), [({"seed": 1}, "Drafts"), ({"drafts": 4}, "seed")])
def test_picks_need_to_know_of_what(fields, said):
    with pytest.raises(RequestError, match=said):
        picked_of(GenerationRequest(pick="1", **fields))


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (4, 2), (5, 3), (9, 3), (10, 4), (100, 10)])
def test_sheets_are_about_square(count, columns):
    assert columns_for(count) == columns
