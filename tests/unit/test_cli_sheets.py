"""Grids and drafts on the command line and in a file of prompts, over a renderer that needs no weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from t2v_core.errors import RequestError
from t2v_core.frontends.cli import main
from t2v_core.infotext import parse_infotext
from t2v_core.media.reading import read_metadata
from t2v_core.rendering.fake import IDENTITY, FakeRenderer
from t2v_core.request import ModelDefaults


@pytest.fixture
def rendered(monkeypatch, tmp_path):
    """Every request that the command line renders; files go to a folder of the test's."""
    requests = []

    def make(host):
        renderer = FakeRenderer(ModelDefaults(steps=20, width=32, height=16, frames=3))
        renderer.rendered = requests
        return renderer

    monkeypatch.setattr("t2v_core.rendering.local.LocalRenderer", make)
    monkeypatch.setattr("t2v_core.models.catalogue.find_model", lambda name, folders: name)
    monkeypatch.setattr("t2v_core.models.hashing.model_hash", lambda model: IDENTITY.hash)
    monkeypatch.chdir(tmp_path)
    return requests


def run(*arguments, expect=0):
    assert main([str(argument) for argument in arguments]) == expect


def files(capsys):
    return [Path(line) for line in capsys.readouterr().out.split()]


def test_a_grid_prints_the_singles_and_itself(rendered, capsys):
    run("grid", "a ball", "--over", "steps=1,2", "--over", "replace=ball,box", "--seed", 4, "--output", "here")
    found = files(capsys)
    assert [path.name for path in found] == [
        "00000-4.mp4", "00001-4.mp4", "00002-4.mp4", "00003-4.mp4", "00004-4-grid.mp4"
    ]  # fmt: skip
    assert [(request.steps, request.prompt) for request in rendered] == [
        (1, "a ball"), (2, "a ball"), (1, "a box"), (2, "a box")
    ]  # fmt: skip
    before = list(rendered)
    run("generate", "--from", found[-1], "--output", "again")
    assert rendered[4:] == before
    assert files(capsys)[-1].name == "00004-4-grid.mp4"


def test_a_grid_over_nothing_is_refused_with_an_example(rendered, capsys):
    run("grid", "a ball", expect=RequestError.exit_code)
    assert "--over steps=10,25" in capsys.readouterr().err
    assert not rendered


def test_drafts_then_picks_from_their_sheet(rendered, capsys):
    run("draft", "a ball", "--count", 4, "--draft-steps", 3, "--output", "here")
    (sheet,) = files(capsys)
    assert sheet.name.endswith("-drafts.mp4")
    assert [request.steps for request in rendered] == [3] * 4
    seeds = [request.seed for request in rendered]
    del rendered[:]
    run("draft", "--from", sheet, "--pick", "3,1", "--output", "here")
    assert [(request.seed, request.steps) for request in rendered] == [(seeds[2], 20), (seeds[0], 20)]
    assert len(files(capsys)) == 2


def test_there_are_nine_drafts_if_nobody_says(rendered):
    run("draft", "a ball")
    assert len(rendered) == 9


def test_a_plain_clips_recipe_becomes_drafts_from_its_seed_on(rendered, capsys):
    run("generate", "a ball", "--seed", 7, "--output", "here")
    (clip,) = files(capsys)
    run("draft", "--from", clip, "--count", 2, "--output", "here")
    assert [(request.seed, request.steps) for request in rendered[1:]] == [(7, 8), (8, 8)]
    run("draft", "--from", clip, "--output", "here")
    assert len(rendered) == 3 + 9


def test_each_line_of_a_file_becomes_a_sheet(rendered, capsys):
    Path("prompts.txt").write_text("one\ntwo\n", encoding="utf-8")
    run("draft", "--prompts", "prompts.txt", "--count", 2, "--output", "here")
    assert [request.prompt for request in rendered] == ["one", "one", "two", "two"]
    assert len(files(capsys)) == 2


def test_no_drafts_at_all_are_refused(rendered):
    run("draft", "a ball", "--count", 0, expect=RequestError.exit_code)
    assert not rendered


def test_picks_by_the_seed_need_no_sheet(rendered):
    run("draft", "a ball", "--seed", 7, "--pick", "9")
    assert [(request.seed, request.steps) for request in rendered] == [(15, 20)]


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ({"steps": [1, 2], "prompt": ["a, b", "c"]}, [(1, "a, b"), (2, "a, b"), (1, "c"), (2, "c")]),
        (["steps=1,2", "prompt=a,c"], [(1, "a"), (2, "a"), (1, "c"), (2, "c")]),
        ("steps=1,2", [(1, "p"), (2, "p")]),
    ],
)
def test_a_file_of_prompts_says_a_grid_in_json(rendered, capsys, over, expected):
    Path("prompts.json").write_text(json.dumps([{"prompt": "p", "seed": 3, "over": over}]), encoding="utf-8")
    run("generate", "--prompts", "prompts.json", "--output", "here")
    assert [(request.steps, request.prompt) for request in rendered] == expected
    assert files(capsys)[-1].name.endswith("-grid.mp4")


@pytest.mark.parametrize("pick", ["2", [2], 2])
def test_a_file_of_prompts_says_drafts_and_picks_in_json(rendered, capsys, pick):
    wishes = [{"prompt": "p", "seed": 3, "drafts": 2}, {"prompt": "p", "seed": 3, "drafts": 2, "pick": pick}]
    Path("prompts.json").write_text(json.dumps(wishes), encoding="utf-8")
    run("generate", "--prompts", "prompts.json", "--output", "here")
    assert [(request.seed, request.steps) for request in rendered] == [(3, 8), (4, 8), (4, 20)]
    sheet, clip = files(capsys)
    assert parse_infotext(read_metadata(sheet) or "").values["drafts"] == 2
    assert parse_infotext(read_metadata(clip) or "").values["seed"] == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--over", "stepps=1"], "steps"),
        (["--over", "steps=1,x"], "Steps"),
        (["--drafts", "101"], "Drafts"),
        (["--drafts", "3", "--pick", "4", "--seed", "1"], "1 to 3"),
        (["--pick", "4"], "Drafts"),
        (["--upscale", "2", "--upscaler", "ESRGAN_4x"], "txt2video tab"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_and_nothing_is_made(rendered, capsys, arguments, said):
    run("generate", "p", *arguments, expect=RequestError.exit_code)
    text = capsys.readouterr().err
    assert said in text
    assert "Traceback" not in text
    assert not rendered
    assert not Path("outputs").exists()


def test_the_time_that_is_foretold_is_that_of_all_clips(rendered, capsys):
    run("draft", "p", "--count", 4, "--draft-steps", 3)
    assert "12 s" in capsys.readouterr().err
    run("grid", "p", "--over", "steps=10,20", "--over", "seed=1-3")
    assert "2 min" in capsys.readouterr().err
