from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2v_core.media.naming import Placement, next_number, numbered_names, safe_name


def first_name(folder: Path, **options: object) -> str:
    return next(numbered_names(folder, **({"stem": "1234", "suffix": ".mp4"} | options)))  # type: ignore[arg-type]


def test_an_empty_or_missing_folder_begins_at_0(tmp_path: Path):
    assert first_name(tmp_path) == first_name(tmp_path / "missing") == "00000-1234.mp4"


@pytest.mark.parametrize(
    ("names", "number"),
    [
        (["00000-1.mp4"], 1),
        (["00007-1.mp4", "00003-2.mp4"], 8),
        (["00007-1.png", "00002-1.mp4"], 8),
        (["00009.mp4"], 10),
        (["00009 my favourite.mp4"], 10),
        (["99999-1.mp4"], 100000),
        (["100000-1.mp4"], 100001),
        (["20240131-holiday.mp4", "2024-01-31.mp4", "123-x.mp4"], 0),
        (["00005x.mp4", "x00005-1.mp4", "notes.txt", ".00008-1.mp4"], 0),
        (["٠٠٠٠٥-1.mp4"], 6),
    ],
)
def test_the_number_follows_the_folders_highest(tmp_path: Path, names: list[str], number: int):
    for name in names:
        (tmp_path / name).touch()
    assert next_number(tmp_path) == number


def test_names_go_on_without_end(tmp_path: Path):
    names = numbered_names(tmp_path, stem="7", suffix=".mp4")
    assert list(itertools.islice(names, 3)) == ["00000-7.mp4", "00001-7.mp4", "00002-7.mp4"]


def test_the_folder_is_looked_at_when_the_first_name_is_needed(tmp_path: Path):
    names = numbered_names(tmp_path, stem="7", suffix=".mp4")
    (tmp_path / "00041-1.mp4").touch()
    assert next(names) == "00042-7.mp4"


def test_a_partial_video_says_so(tmp_path: Path):
    assert first_name(tmp_path, partial=True) == "00000-1234-partial.mp4"
    assert first_name(tmp_path, partial=True, stem="a/b") == "00000-a_b-partial.mp4"


def test_a_placement_names_the_seed_or_its_stem_with_or_without_a_number(tmp_path: Path):
    def names(partial: bool = False, **options: object) -> list[str]:
        placement = Placement(tmp_path, **options)  # type: ignore[arg-type]
        return list(itertools.islice(placement.names(seed=5, suffix=".mp4", partial=partial), 2))

    assert names() == ["00000-5.mp4", "00001-5.mp4"]
    assert names(stem="a ball") == ["00000-a ball.mp4", "00001-a ball.mp4"]
    assert names(stem="a/b", numbered=False) == ["a_b.mp4", "a_b-1.mp4"]
    assert names(numbered=False, partial=True) == ["5-partial.mp4", "5-partial-1.mp4"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a cat", "a cat"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ('a<b>:"c"/\\d|e?*', "a_b_c_d_e_"),
        ("ends in dots. . .", "ends in dots"),
        ("CON", "_CON"),
        ("nul.mp4", "_nul.mp4"),
        ("com1", "_com1"),
        ("console", "console"),
        ("", "_"),
        ("...", "_"),
        ("\xa0", "_"),
        (". \u3000a.b\u2003. ", "a.b"),
        ("a\n\0b", "a_b"),
        ("猫の映画", "猫の映画"),
        ("half \ud800", "half _"),
        ("turn \u202egpj.exe", "turn _gpj.exe"),
        ("x" * 500, "x" * 150),
        ("猫" * 500, "猫" * 50),
    ],
    ids=ascii,
)
def test_safe_names(text: str, name: str):
    assert safe_name(text) == name


@settings(deadline=None, database=None)
@given(st.text())
def test_any_text_becomes_a_name_of_one_part(text: str):
    name = safe_name(text)
    assert name
    assert len(name.encode()) <= 151
    assert not set(name) & set('<>:"/\\|?*\0\n')
    assert name[-1] not in " ."
    assert name == name.strip()
