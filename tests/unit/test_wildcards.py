"""Wildcards: lines of files in the host's folders, drawn by a clip's seed, and nothing from anywhere else."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from t2v_core import service
from t2v_core.infotext import parse_infotext
from t2v_core.prompts import wildcards
from t2v_core.prompts.wildcards import Drawing, has_wildcards
from t2v_core.rendering.fake import FakeRenderer
from t2v_core.request import GenerationRequest
from t2v_core.run import ClipSaved, ClipStarted, Notice, Run


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "wildcards"
    (root / "animals" / "small").mkdir(parents=True)
    (root / "colors.txt").write_text("# warm\nred\n\n  orange  \n#blue\n", encoding="utf-8-sig")
    (root / "animals" / "big.txt").write_text("whale\nelephant\n")
    (root / "animals" / "small" / "pets.txt").write_text("cat\ndog\n")
    (root / "scene.txt").write_text("a __colors__ __animals/big__\n")
    (root / "endless.txt").write_text("x __endless__ __endless__\n")
    (root / "rare.txt").write_text("99::often\n1::seldom\n")
    (root / "my_long_name.txt").write_text("found\n")
    (tmp_path / "secret.txt").write_text("secret\n")
    return root


def drawn(folder, prompt, seed=1):
    return Drawing((folder,), seed).prompt(prompt)


def test_the_seed_decides_and_every_line_has_its_turn(folder):
    found = Counter(drawn(folder, "a __colors__ ball", seed) for seed in range(60))
    assert set(found) == {"a red ball", "a orange ball"}
    assert drawn(folder, "a __colors__ ball", 7) == drawn(folder, "a __colors__ ball", 7)


def test_each_of_several_is_drawn_anew(folder):
    assert len({drawn(folder, "__colors__ " * 8, seed) for seed in range(10)}) > 5


def test_lines_may_hold_wildcards_and_folders_and_stars_name_files(folder):
    assert drawn(folder, "__scene__").split()[2] in ("whale", "elephant")
    assert drawn(folder, "__animals/small/pets__") in ("cat", "dog")
    assert {drawn(folder, "__animals/*__", seed) for seed in range(40)} == {"whale", "elephant", "cat", "dog"}
    assert drawn(folder, "__my_long_name__") == "found"


def test_a_line_may_say_how_often_it_comes(folder):
    found = Counter(drawn(folder, "__rare__", seed) for seed in range(100))
    assert found["often"] > 90


def test_a_wildcard_that_names_itself_ends(folder):
    assert drawn(folder, "__endless__").count("x") == wildcards.MOST_DRAWS


@pytest.mark.parametrize(
    "prompt",
    ["__../secret__", "__animals/../../secret__", "__/etc/passwd__", "__..\\secret__", "__C:/secret__",
     "__*/../secret__", "__nothing__", "____", "__ __", "__init", "a__b", "__link__", "__animals__", "__.__",
     "__colors.txt__"],
)  # fmt: skip
def test_what_is_no_wildcard_file_stays_as_it_is(folder, prompt):
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    drawing = Drawing((folder, folder.parent / "not there"), 1)
    assert drawing.prompt(prompt) == prompt


def test_missing_names_are_told(folder):
    drawing = Drawing((folder,), 1)
    drawing.prompt("__colors__ __colour__ __colour__ __x/y__")
    assert drawing.missing == ["colour", "x/y"]


def test_the_first_folder_that_has_the_file_counts(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "colors.txt").write_text("green\n")
    assert Drawing((other, folder), 1).prompt("__colors__") == "green"
    assert Drawing((tmp_path / "none", folder), 1).prompt("__colors__") in ("red", "orange")


@pytest.mark.parametrize(("prompt", "has"), [("a __b__ c", True), ("__a/b__", True), ("a _b_", False), ("", False)])
def test_only_what_looks_like_one_is_looked_for(prompt, has):
    assert has_wildcards(prompt) is has


def run(requests, host):
    events = []
    service.generate(requests, renderer=FakeRenderer(), host=host, run=Run(events.append))
    return events


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture
def request_(host, folder):
    return GenerationRequest(
        prompt="a __colors__ ball", negative_prompt="__animals/big__", seed=5, count=4, frames=2, width=32, height=32
    )


def test_each_clip_draws_its_own_and_its_recipe_holds_what_was_drawn(host, request_):
    events = run([request_], host)
    prompts = [event.request.prompt for event in of(ClipStarted, events)]
    assert [event.request.seed for event in of(ClipStarted, events)] == [5, 6, 7, 8]
    assert set(prompts) == {"a red ball", "a orange ball"}
    recipes = [parse_infotext(event.infotext) for event in of(ClipSaved, events)]
    assert [recipe.values["prompt"] for recipe in recipes] == prompts
    assert {recipe.values["negative_prompt"] for recipe in recipes} <= {"whale", "elephant"}
    assert recipes[0].extras["Template"] == "a __colors__ ball"
    assert recipes[0].extras["Negative template"] == "__animals/big__"


def test_a_pasted_recipe_makes_the_same_clip_again(host, request_):
    (first, *_) = of(ClipSaved, run([request_], host))
    values = parse_infotext(first.infotext).values
    again = GenerationRequest.from_dict(values, choices=service.CHOICES)
    (second,) = of(ClipSaved, run([again], host))
    assert parse_infotext(second.infotext).values == values


def test_a_loras_name_may_be_drawn(host, folder, request_):
    (folder / "style.txt").write_text("<lora:nowhere:0.5>\n")
    with pytest.raises(Exception, match="nowhere"):
        run_local(host, dataclasses.replace(request_, prompt="a ball __style__", count=1))


def run_local(host, request):
    from t2v_core.models.catalogue import DEMO
    from t2v_core.rendering.local import LocalRenderer

    service.generate([dataclasses.replace(request, model=DEMO)], renderer=LocalRenderer(host), host=host, run=Run())


def test_a_name_without_a_file_is_said_and_stays(host, request_):
    events = run([dataclasses.replace(request_, prompt="a __colour__ ball", count=2)], host)
    (notice,) = of(Notice, events)
    assert "__colour__" in notice.message
    assert [event.request.prompt for event in of(ClipStarted, events)] == ["a __colour__ ball"] * 2
