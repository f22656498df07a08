"""Events leave through a run and stopping comes in through it."""

from __future__ import annotations

import pytest

from t2v_core.errors import Cancelled
from t2v_core.run import Notice, Progress, Run, Stage, Stop


def test_tracking_reports_before_the_first_and_after_each_item():
    events = []
    run = Run(events.append)
    assert list(run.track(["ab", "c"], stage=Stage.DECODING, total=3, unit="frame", units=len)) == ["ab", "c"]
    assert events == [Progress(Stage.DECODING, done, 3, "frame") for done in (0, 2, 3)]


def test_an_item_counts_only_once_it_was_dealt_with():
    events = []
    run = Run(events.append)
    for _ in run.track(range(3), stage=Stage.SAMPLING, total=3, unit="step"):
        break
    assert [event.done for event in events] == [0]


def test_a_skip_ends_with_its_clip_and_an_interrupt_does_not():
    run = Run()
    run.skip()
    assert run.stop is Stop.SKIP
    assert run.begin_clip()
    assert run.stop is None
    run.interrupt()
    run.skip()
    assert run.stop is Stop.INTERRUPT
    assert not run.begin_clip()
    assert run.stops == 3


@pytest.mark.parametrize("stops", [(), ("skip",), ("interrupt",)], ids=str)
def test_after_a_clip_that_was_to_be_the_last_none_begins_and_its_own_stages_go_on(stops):
    run = Run()
    assert run.begin_clip()
    for _ in range(2):
        run.finish_clip()
    assert (run.stop, run.stops) == (None, 0)
    run.raise_if_stopped()
    for stop in stops:
        getattr(run, stop)()
    assert not run.begin_clip()


def test_a_stop_raises_only_where_nothing_can_be_kept():
    run = Run()
    run.raise_if_stopped()
    run.interrupt()
    with pytest.raises(Cancelled):
        run.raise_if_stopped()


def test_nobody_needs_to_listen():
    Run().report(Notice("heard by no one"))
