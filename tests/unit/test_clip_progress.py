"""How much of a clip is done, and the words for it."""

from __future__ import annotations

import pytest

from t2v_core.frontends.clip_progress import SHARES, ClipProgress
from t2v_core.frontends.words import duration, forecast, how_far, size
from t2v_core.rendering.forecast import Forecast
from t2v_core.request import GenerationRequest
from t2v_core.run import ClipStarted, Notice, Progress, Stage

FIRST = [Stage.LOADING, Stage.TEXT, Stage.LOADING, Stage.SAMPLING, Stage.LOADING, Stage.DECODING, Stage.ENCODING]
FROM_SOURCE = [*FIRST[:2], Stage.LOADING, Stage.SOURCE, *FIRST[2:]]
LATER = [Stage.TEXT, Stage.SAMPLING, Stage.DECODING, Stage.ENCODING]


def test_the_shares_are_those_of_a_whole_clip():
    assert [stage for stage, _ in SHARES] == FROM_SOURCE
    assert sum(share for _, share in SHARES) == pytest.approx(1)


@pytest.mark.parametrize("stages", [FIRST, FROM_SOURCE, LATER], ids=["first clip", "from a source", "later clip"])
def test_the_fraction_never_goes_back_and_ends_at_one(stages):
    progress, seen = ClipProgress(), []
    progress(ClipStarted(1, 3, GenerationRequest(fps=12.0)))
    for stage in stages:
        for done in range(5):
            progress(Progress(stage, done, 4, "x"))
            seen.append(progress.fraction)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1)
    assert (progress.clip, progress.clips, progress.fps) == (1, 3, 12.0)
    progress(Notice("nothing"))
    progress(ClipStarted(2, 3, GenerationRequest()))
    assert (progress.clip, progress.fraction, progress.fps) == (2, 0.0, 12.0)


def test_sampling_counts_by_its_steps():
    progress = ClipProgress()
    progress(Progress(Stage.SAMPLING, 8, 16, "step"))
    assert progress.fraction == pytest.approx(0.14 + 0.35)
    assert progress.words == "Sampling 8/16"


def test_words():
    assert how_far(Progress(Stage.LOADING, 1_200_000_000, 2_820_000_000, "B")) == "Loading 1.2 GB of 2.8 GB"
    assert [size(27_400_000), size(3_600_000_000)] == ["27 MB", "3.6 GB"]
    assert [duration(0.2), duration(45.4), duration(300), duration(7200)] == ["1 s", "45 s", "5 min", "2.0 h"]


def test_a_forecast_says_how_much_a_program_around_us_holds_where_it_is_much():
    alone = Forecast("cpu", "fp32", 10**8, peak=9 * 10**8, held=3 * 10**8)
    assert forecast(alone).startswith("About 0.9 GB of memory at the peak (fp32 on cpu)")
    inside = Forecast("cpu", "fp32", 10**8, peak=5_400_000_000, held=4_900_000_000)
    assert "5.4 GB of memory at the peak, 4.9 GB of it without the model" in forecast(inside)
