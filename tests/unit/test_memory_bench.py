"""The benchmark of the memory plan: on which weights and clips it runs, and that it runs."""

from __future__ import annotations

import json

import pytest
from model_layouts import TINY_CLIPS

from benchmarks import memory
from benchmarks.compare import options, weights
from benchmarks.compare.sizes import FULL


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What is written, and which clip is measured in which folder."""
    seen = []
    monkeypatch.setattr(options, "FOLDER", tmp_path)
    monkeypatch.setattr(weights, "write", lambda *given: seen.append(given))

    def measure(shape, options, folder):
        seen.append((shape, folder))
        return {"rung": "all on the device", "predicted": 2e9, "measured": 2.1e9}

    monkeypatch.setattr(memory, "_in_a_process_of_its_own", measure)
    return seen


def test_the_real_size_has_the_weights_that_compare_has(asked, tmp_path, capsys):
    assert memory.main(["256x256x16", "1024x576x24", "--device", "cuda", "--model", "full"]) == 0
    folder = tmp_path / "full"
    assert folder == options.wish_of(options.parser().parse_args(["--device", "cpu"])).bench.folder
    assert asked == [(folder, FULL, [weights.ORIGINAL]), ("256x256x16", folder), ("1024x576x24", folder)]
    assert "-4.8%" in capsys.readouterr().out


def test_without_clips_there_is_a_grid_and_another_model_lies_elsewhere(asked, tmp_path):
    memory.main([])
    (folder, config, _), *clips = asked
    assert (folder, config) == (tmp_path / "mid", memory.MID_SIZE)
    assert len(clips) == len(set(clips)) == 20


def test_a_clip_that_is_none_is_refused_before_anything_is_written(asked):
    with pytest.raises(SystemExit):
        memory.main(["256x256"])
    assert not asked


def test_a_clip_is_measured_in_a_process_of_its_own(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(memory.MODELS, "mid", TINY_CLIPS)
    memory.main(["64x64x2", "--folder", str(tmp_path), "--json", str(tmp_path / "rows.json")])
    (row,) = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert row["shape"] == "64x64x2"
    assert 0.5 < row["predicted"] / row["measured"] < 2
    assert "| 64x64x2 | " in capsys.readouterr().out
    assert (tmp_path / "cache").is_dir(), "not among the user's own"
