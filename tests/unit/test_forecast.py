"""What a run will take is told from what runs took."""

from __future__ import annotations

import dataclasses

import pytest

from t2v_core.rendering import forecast
from t2v_core.rendering.forecast import KEPT, Measurement, Watch, Work, foretell, read, remember
from t2v_core.run import Notice, Progress, Stage

WORK = Work("t2v", "cpu", "fp32", cells=1000, passes=50)
MEASURED = Measurement(
    WORK,
    loading=20.0,
    sampling=100.0,
    decoding=10.0,
)


def test_the_same_clip_takes_what_it_took():
    assert foretell(WORK, [MEASURED], loaded=False) == 130
    assert foretell(WORK, [MEASURED], loaded=True) == 110


def test_time_grows_with_cells_and_passes():
    larger = dataclasses.replace(WORK, cells=3000, passes=25)
    assert foretell(larger, [MEASURED], loaded=True) == 100 * 3 / 2 + 30


def test_the_measurements_nearest_in_size_decide():
    large = Measurement(dataclasses.replace(WORK, cells=8000), 0.0, 900.0, 0.0)
    wanted = dataclasses.replace(WORK, cells=4000)
    assert foretell(wanted, [MEASURED, large], loaded=True) == 450


@pytest.mark.parametrize("slow_one", [0, 1, 2, 3])
def test_a_clip_that_others_slowed_down_spoils_no_forecast(slow_one):
    known = [dataclasses.replace(MEASURED, sampling=100.0 + number) for number in range(4)]
    known[slow_one] = dataclasses.replace(MEASURED, sampling=3000.0, decoding=400.0)
    assert foretell(WORK, known, loaded=True) == pytest.approx(111, abs=2)


def test_a_machine_that_has_become_slower_is_believed():
    slower = [dataclasses.replace(MEASURED, sampling=200.0)] * 3
    assert foretell(WORK, [MEASURED] * 5 + slower, loaded=True) == 210


@pytest.mark.parametrize("change", [{"model": "other"}, {"device": "cuda"}, {"precision": "bf16"}])
def test_other_models_devices_and_formats_say_nothing(change):
    assert foretell(dataclasses.replace(WORK, **change), [MEASURED], loaded=True) is None


def test_a_watch_sums_each_stage(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: now[0])
    watch = Watch()

    def see(stage, done, at):
        now[0] = at
        watch(Progress(stage, done, 4, "x"))

    see(Stage.LOADING, 0, 1.0)
    see(Stage.LOADING, 4, 3.0)
    watch(Notice("nothing to measure"))
    see(Stage.SAMPLING, 0, 5.0)
    see(Stage.SAMPLING, 2, 9.0)
    see(Stage.LOADING, 0, 10.0)
    see(Stage.LOADING, 4, 10.5)
    see(Stage.DECODING, 0, 11.0)
    see(Stage.DECODING, 4, 12.0)
    assert watch.measurement(WORK) == Measurement(WORK, 2.5, 4.0, 1.0)


def test_measurements_are_remembered_and_the_oldest_forgotten(tmp_path):
    path = tmp_path / "folder" / "measurements.json"
    assert read(path) == []
    for number in range(KEPT + 2):
        remember(path, dataclasses.replace(MEASURED, decoding=number))
    known = read(path)
    assert [known[0].decoding, known[-1].decoding, len(known)] == [2, KEPT + 1, KEPT]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"work": {}}]', "\0"])
def test_a_file_that_is_not_ours_counts_as_empty(tmp_path, content):
    path = tmp_path / "measurements.json"
    path.write_text(content)
    assert read(path) == []


def test_a_disk_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    remember(tmp_path / "file" / "measurements.json", MEASURED)
