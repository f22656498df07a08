"""What prompts mean: what the WebUI's own parser makes of them, and what is ours alone, key frames and wildcards."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2v_core.errors import RequestError
from t2v_core.infotext import format_infotext, parse_infotext
from t2v_core.prompts.composition import composed
from t2v_core.prompts.editing import SecondPass, schedule, text_at
from t2v_core.prompts.emphasis import phrases
from t2v_core.prompts.key_frames import KeyFrame, Timing, key_frames
from t2v_core.prompts.script import Between, read_script
from t2v_core.request import GenerationRequest, ModelDefaults
from t2v_core.video import ModelIdentity

CORPUS = [
    json.loads(line)
    for line in Path(__file__).with_name("prompt_corpus.jsonl").read_text(encoding="utf-8").splitlines()
]
"""Prompts with what modules/prompt_parser.py of AUTOMATIC1111's WebUI 1.10.1 answered.

Of a few it gave several answers, for a stray bracket beside an edit is a draw there, from one start to the next; and
`phrases` is null where it failed.
"""

SHAPES = "()[]:|\\ \n.0123456789ANDBREAKabc,é"
SIXTEEN = Timing(frames=16, fps=8)


def test_the_corpus_is_as_large_as_it_should_be():
    assert len(CORPUS) >= 200
    assert sum(len(row["schedules"][0]) > 1 for row in CORPUS) >= 100


@pytest.mark.parametrize("row", CORPUS, ids=lambda row: ascii(row["prompt"][:40]))
def test_a_prompt_means_what_it_means_to_the_webui(row):
    prompt = row["prompt"]
    second = SecondPass(row["first_steps"]) if "first_steps" in row else None
    stretches = schedule(prompt, row["steps"], second=second)
    assert [[stretch.until, stretch.text] for stretch in stretches] in row["schedules"]
    assert [[each.text, each.weight] for each in composed(prompt)] == row["texts"]
    if row["phrases"] is not None:
        assert [[phrase.text, phrase.weight] for phrase in phrases(prompt)] == row["phrases"]


@given(st.text(SHAPES, max_size=80), st.integers(1, 30))
def test_any_prompt_can_be_read(prompt: str, steps: int):
    stretches = schedule(prompt, steps)
    untils = [stretch.until for stretch in stretches]
    assert untils == sorted(set(untils))
    assert 1 <= untils[0] <= untils[-1] == steps
    for text in (prompt, *(stretch.text for stretch in stretches), *(each.text for each in composed(prompt))):
        assert "".join(phrase.text for phrase in phrases(text) if not phrase.is_break).count("") <= len(text) + 1


@given(st.text("abc ,.éñ-'\"{}<>\n", max_size=60), st.integers(1, 30))
def test_a_prompt_without_marks_is_one_phrase_and_one_stretch(prompt: str, steps: int):
    assert [(stretch.until, stretch.text) for stretch in schedule(prompt, steps)] == [(steps, prompt)]
    assert [(phrase.text, phrase.weight) for phrase in phrases(prompt)] == [(prompt, 1.0)]


@pytest.mark.parametrize(
    "prompt",
    ["(" * 30_000, "[" * 30_000, "(a" * 20_000, "[a:" * 20_000, "[" * 5000 + ":1]" * 5000,
     ":" * 50_000, "a:1)" * 20_000,
     "(" * 20_000 + ":1.1)" * 20_000, "\\" * 50_000, "[a|" * 20_000, "BREAK " * 20_000, " AND " * 20_000, ": " * 40_000,
     "[" + " " * 50_000 + ":", "__" * 20_000],
    ids=lambda prompt: prompt[:6],
)  # fmt: skip
def test_no_prompt_takes_long_or_too_deep(prompt: str):
    began = time.perf_counter()
    schedule(prompt, 20)
    phrases(prompt)
    composed(prompt)
    assert time.perf_counter() - began < 5


def test_a_stretch_is_in_use_as_long_as_the_webui_uses_it():
    """Its denoiser counts steps from 0 and takes the first stretch whose end isn't passed: a step more than it says."""
    stretches = schedule("[cat:dog:3]", 8)
    assert [text_at(stretches, step) for step in range(8)] == ["cat"] * 4 + ["dog"] * 4
    turns = schedule("[cat|dog]", 5)
    assert [text_at(turns, step) for step in range(5)] == ["cat", "cat", "dog", "cat", "dog"]


@pytest.mark.parametrize(
    ("line", "frame"),
    [("0: a", 0), ("8: a", 8), ("8 : a", 8), ("  8:a", 8), ("0%: a", 0), ("50%: a", 8), ("100%: a", 15),
     ("33.3 %: a", 5),
     ("1s: a", 8), ("0.5s: a", 4), ("1.5 s: a", 12), ("2s: a", 15), ("15:", 15)],
)  # fmt: skip
def test_a_line_names_its_frame_by_number_percent_or_seconds(line: str, frame: int):
    (key,) = key_frames(line, SIXTEEN)
    assert key.frame == frame


@pytest.mark.parametrize(
    "prompt",
    ["a cat", "16:9 picture", "10:30 at night", "8 frames: a cat", "a 8: cat", "1.5: a", "-1: a", "x%: a", "8\\: a",
     "(a:1.2)",
     "[a:b:3]", "", "\n", "8 a", "(a\nb:8)"],
)  # fmt: skip
def test_what_is_no_key_frame_is_left_as_it_is(prompt: str):
    assert key_frames(prompt, SIXTEEN) == (KeyFrame(0, prompt),)


def test_head_and_tail_belong_to_each_key_frame_and_a_line_between_goes_on():
    prompt = "a photo,\nof a tree\n12: in winter\nwith snow\n0: in spring\n\nbest quality"
    assert key_frames(prompt, SIXTEEN) == (
        KeyFrame(0, "a photo, of a tree, in spring, best quality"),
        KeyFrame(12, "a photo, of a tree, in winter, with snow, best quality"),
    )


def test_no_comma_comes_between_words_that_join_texts():
    assert key_frames("0: a AND\nb BREAK\n8: c\nAND d", SIXTEEN) == (
        KeyFrame(0, "a AND b BREAK AND d"),
        KeyFrame(8, "c AND d"),
    )


@pytest.mark.parametrize("prompt", ["16: a", "0: a\n99: b", "101%: a", "2.2s: a", "0: a\n0%: b", "8: a\n1s: b"])
@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_a_key_frame_outside_the_clip_or_beside_another_is_said_with_its_field(prompt: str, field: str):
    prompts = {"prompt": "", "negative_prompt": "", field: prompt}
    with pytest.raises(RequestError) as caught:
        read_script(**prompts, timing=SIXTEEN, steps=5)
    (problem,) = caught.value.problems
    assert problem.field == field
    assert prompt.splitlines()[-1] in problem.message


@pytest.mark.parametrize("prompt", ["(a:10001)", "(a:-99999)", "a:10001 AND b", "(" * 99 + "a", "0: a\n5: (b:1000000)"])
def test_a_weight_that_no_model_can_follow_is_refused(prompt: str):
    with pytest.raises(RequestError, match="weight"):
        read_script(prompt, "", SIXTEEN, steps=5)


def test_a_frame_lies_between_its_key_frames_and_the_ends_hold():
    track = read_script("4: a\n8: b\n10: c", "", SIXTEEN, steps=5).prompt
    assert [track.between(frame) for frame in (0, 3, 4, 5, 8, 9, 10, 15)] == [
        Between(0, 0, 0.0),
        Between(0, 0, 0.0),
        Between(0, 0, 0.0),
        Between(0, 1, 0.25),
        Between(1, 1, 0.0),
        Between(1, 2, 0.5),
        Between(2, 2, 0.0),
        Between(2, 2, 0.0),
    ]


def test_in_a_closed_loop_the_last_key_frame_leads_to_the_first():
    loop = Timing(frames=16, fps=8, is_loop=True)
    track = read_script("0: a\n50%: b", "", loop, steps=5).prompt
    assert [key.frame for key in track.keys] == [0, 8]
    assert track.between(12) == Between(1, 0, 0.5)
    assert track.between(15) == Between(1, 0, 0.875)
    late = read_script("4: a\n12: b", "", loop, steps=5).prompt
    assert [late.between(frame) for frame in (0, 2, 14)] == [
        Between(1, 0, 0.5),
        Between(1, 0, 0.75),
        Between(1, 0, 0.25),
    ]


def test_what_a_key_frame_lacks_of_the_others_texts_has_no_weight_there():
    track = read_script("0: a\n8: b:0.5 AND c:2 AND d", "", SIXTEEN, steps=5).prompt
    assert [[(part.text(0), part.weight) for part in key.parts] for key in track.keys] == [
        [("a", 1.0), ("a", 0.0), ("a", 0.0)],
        [("b", 0.5), (" c", 2.0), (" d", 1.0)],
    ]


def test_and_joins_texts_in_the_prompt_only():
    script = read_script("a AND b", "c AND d:0.5", SIXTEEN, steps=5)
    assert script.texts() == ("a", " b", "c AND d:0.5")
    assert not script.differs_by_frame


def test_a_script_names_every_text_that_is_ever_said_once():
    script = read_script("0: [a|b] x\n8: [a:c:0.5] x AND y", "[n:m:2]", SIXTEEN, steps=4)
    assert script.prompt.texts() == ("a x", "b x", "c x", " y")
    assert set(script.negative_prompt.texts()) == {"n", "m"}


@pytest.mark.parametrize(
    ("prompt", "count"),
    [
        ("", "0/75"),
        ("a photo of a cat", "5/75"),
        ("a (photo:1.2) of [a cat|a dog]", "5/75"),
        ("a BREAK b", "76/150"),
        ("a cat AND a large dog", "3/75"),
        ("0: a cat\n24: a large dog\nx", "5/75"),
        ("cat " * 80, "80/150"),
        ("0: a\n0: b b b b b b b b b", "14/75"),
        ("(a:99999)", "1/75"),
    ],
)
def test_the_tab_counts_the_tokens_of_the_longest_text(prompt: str, count: str):
    pytest.importorskip("gradio")
    from t2v_core.frontends.tab.about import token_count

    assert f">{count}<" in token_count(prompt)


KEYED = "head (a:1.2),\n0: [b|c]\n50%: d AND e:0.5\n2s: \\(f\\) BREAK __g__\ntail"


@pytest.mark.parametrize("negative", ["", KEYED])
@pytest.mark.parametrize("start", range(0, len(CORPUS), 20))
def test_a_recipe_keeps_prompts_as_they_were_typed(start: int, negative: str):
    for prompt in (KEYED, *(row["prompt"] for row in CORPUS[start : start + 20])):
        request = GenerationRequest(prompt=prompt, negative_prompt=negative, prompt_blend="cut").resolve(
            ModelDefaults()
        )
        found = parse_infotext(format_infotext(request, ModelIdentity("m", "0" * 10))).values
        assert (found["prompt"], found["negative_prompt"]) == (prompt, negative)
        assert found["prompt_blend"] == "cut"
