"""A clip that was made from files, made again from its own recipe, with the demo model and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from odd_files import picture, video
from PIL import Image

from t2v_core.errors import UnreadableFileError
from t2v_core.frontends.cli import main
from t2v_core.infotext import parse_infotext
from t2v_core.media.reading import read_frames, read_metadata
from t2v_core.models.catalogue import DEMO

SMALL = ("--model", DEMO, "--steps", "2", "--seed", "3", "--output", "out", "--format", "apng")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    video("-c:v", "ffv1", seconds=2)(tmp_path / "a, b.mkv")
    picture("L")(tmp_path / "mask.png")
    Image.new("RGB", (64, 64), (200, 30, 30)).save(tmp_path / "anchor.png")
    return tmp_path


@pytest.mark.parametrize(
    "flags",
    [
        ("--source", "a, b.mkv", "--source-start", "0.5", "--source-end", "1", "--strength", "0.4", "--fit", "pad"),
        ("--source", "a, b.mkv", "--frames", "3", "--mask", "mask.png", "--mask-grow", "-1", "--mask-feather", "3"),
        ("--first-frame", "anchor.png", "--anchors", "2: anchor.png @ 0.5", "--frames", "4", "--no-match-colors"),
        ("--continue-from", "a, b.mkv", "--continue-frames", "2", "--join", "--frames", "4"),
    ],
    ids=["source", "mask", "anchors", "continued"],
)
def test_a_recipe_with_files_makes_the_same_clip_again(files: Path, capsys: pytest.CaptureFixture[str], flags):
    assert main(["generate", "a red ball", *SMALL, *flags]) == 0
    first = Path(capsys.readouterr().out.strip())
    assert main(["generate", "--from", str(first), "--output", "again", "--format", "apng"]) == 0
    told = capsys.readouterr()
    assert "recipe" not in told.err
    again = Path(told.out.strip())
    assert (read_frames(first) == read_frames(again)).all()
    one, other = (parse_infotext(read_metadata(path) or "") for path in (first, again))
    assert one == other
    assert [key for key in one.extras if key.endswith(" hash")]


def test_a_file_that_has_changed_is_said_and_one_that_is_gone_too(files: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["generate", "a red ball", *SMALL, "--source", "a, b.mkv", "--frames", "2"]) == 0
    made = capsys.readouterr().out.strip()
    video("-c:v", "ffv1", rate=10)(files / "a, b.mkv")
    assert main(["generate", "--from", made, "--output", "again"]) == 0
    assert "Source: a, b.mkv isn't the file that the recipe was made from" in capsys.readouterr().err
    (files / "a, b.mkv").unlink()
    assert main(["generate", "--from", made, "--output", "again"]) == UnreadableFileError.exit_code
    said = capsys.readouterr().err
    assert "Source: the recipe's file a, b.mkv can't be used: There is no file a, b.mkv. Choose it again." in said
    assert "Choose the file again, or clear Source" in said
    assert main(["generate", "--from", made, "--source", "", "--output", "again"]) == 0
