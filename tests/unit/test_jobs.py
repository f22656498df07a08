"""The line of runs: one at a time, in order, stopped by their owner alone, and never lost."""

from __future__ import annotations

import threading

import pytest

from t2v_core import jobs as jobs_module
from t2v_core.errors import BusyError
from t2v_core.jobs import Jobs
from t2v_core.run import Run

PATIENCE = 10.0


class Gate:
    """Work that begins, then waits until it may end."""

    def __init__(self, result: str = "made") -> None:
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.run: Run | None = None
        self.result = result

    def __call__(self, run: Run) -> str:
        self.run = run
        self.began.set()
        while not (self.may_end.wait(0.01) or run.stop):
            pass
        return "stopped" if run.stop else self.result


@pytest.fixture
def line():
    jobs = Jobs()
    yield jobs
    jobs.close(PATIENCE)


def put(jobs: Jobs, name: str, work, *, owner: str = "ann"):
    return jobs.submit(name, owner=owner, work=work, follower=lambda event: None, unbegun="never began")


def test_one_runs_and_the_others_know_their_place(line):
    works = [Gate("first"), Gate("second"), Gate("third")]
    made = [put(line, str(number), work) for number, work in enumerate(works)]
    assert works[0].began.wait(PATIENCE)
    assert [line.before(job) for job in made] == [0, 1, 2]
    assert not works[1].began.is_set()
    for work in works:
        work.may_end.set()
    assert [job.ended.wait(PATIENCE) and job.result for job in made] == ["first", "second", "third"]


def test_nobody_finds_anothers_job(line):
    work = Gate()
    job = put(line, "task", work)
    assert line.find("task", owner="ann") is job
    assert line.find("task", owner="bob") is None
    work.may_end.set()
    assert job.ended.wait(PATIENCE)
    assert line.find("task", owner="ann") is job, "an ended job's result can be seen again"


def test_interrupt_stops_what_runs_and_takes_what_waits_out_of_the_line(line):
    running, waiting = Gate(), Gate()
    first, second = put(line, "1", running), put(line, "2", waiting)
    assert running.began.wait(PATIENCE)
    line.interrupt(second)
    assert second.ended.is_set()
    assert second.result == "never began"
    line.skip(second)
    line.interrupt(first)
    assert first.ended.wait(PATIENCE)
    assert first.result == "stopped"
    assert not waiting.began.is_set()


def test_an_error_is_kept_and_the_next_job_runs(line):
    def fail(run: Run) -> None:
        raise ValueError("broken")

    first = put(line, "1", fail)
    work = Gate()
    work.may_end.set()
    second = put(line, "2", work)
    assert second.ended.wait(PATIENCE)
    assert isinstance(first.error, ValueError)
    assert second.result == "made"


def test_the_line_has_an_end(line, monkeypatch):
    monkeypatch.setattr(jobs_module, "MOST_WAITING_OF_ONE", 2)
    monkeypatch.setattr(jobs_module, "MOST_WAITING", 3)
    work = Gate()
    put(line, "0", work)
    assert work.began.wait(PATIENCE)
    for number in (1, 2):
        put(line, str(number), Gate())
    with pytest.raises(BusyError, match="You have 2"):
        put(line, "3", Gate())
    put(line, "4", Gate(), owner="bob")
    with pytest.raises(BusyError, match="There are 3"):
        put(line, "5", Gate(), owner="eve")
    with pytest.raises(BusyError, match="already"):
        put(line, "0", Gate(), owner="ann")


def test_only_so_many_results_are_remembered(line, monkeypatch):
    monkeypatch.setattr(jobs_module, "REMEMBERED", 3)
    for number in range(6):
        work = Gate()
        work.may_end.set()
        assert put(line, str(number), work).ended.wait(PATIENCE)
    put(line, "last", work)
    assert line.find("0", owner="ann") is None
    assert line.find("5", owner="ann") is not None


def test_closing_stops_what_runs_and_takes_no_more():
    jobs = Jobs()
    work = Gate()
    job, waiting = put(jobs, "1", work), put(jobs, "2", Gate())
    assert work.began.wait(PATIENCE)
    jobs.close(PATIENCE)
    assert job.result == "stopped"
    assert waiting.result == "never began"
    with pytest.raises(BusyError, match="being stopped"):
        put(jobs, "3", Gate())
