"""The measuring itself: contenders take turns in processes that stay, or where memory is short, process by process."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.compare import estimate
from benchmarks.compare.cases import Case
from benchmarks.compare.processes import Bench, Worker, WorkerError
from benchmarks.compare.results import WAYS

log = logging.getLogger(__name__)

Groups = Sequence[Sequence[str]]
"""Contenders by the process that they are in; those of one process share their weights."""


@dataclass(slots=True)
class Found:
    """What was seen of one contender in one case."""

    seconds: list[float] = field(default_factory=list)
    sampling: list[float] = field(default_factory=list)
    peak: int | None = None
    above: int | None = None
    grown: int | None = None
    """What the peak is above what was there when the go began; not of whole clips."""
    result: npt.NDArray[np.float32] | None = None
    said: list[str] = field(default_factory=list)
    problem: str = ""

    def hear(self, name: str, answer: dict[str, Any]) -> None:
        """Keep what a contender said in a go, each sentence once."""
        for text in answer["said"]:
            if text not in self.said:
                self.said.append(text)
                log.info("    %s says: %s", name, text)


class Pool:
    """Processes in one number format that stay from case to case, for a `with` block that ends them."""

    def __init__(self, bench: Bench, precision: str) -> None:
        self._bench = bench
        self._precision = precision
        self._workers: dict[tuple[str, ...], Worker] = {}
        self._fresh: list[Worker] = []

    @property
    def folder(self) -> Path:
        """Where results may be written."""
        return self._bench.folder

    def limits(self) -> dict[str, Any]:
        """What the machine can do in this number format, and what torch says of it, in a process without weights."""
        self._fresh.append(Worker(self._bench, self._precision))
        worker = self._fresh[-1]
        measured = {**worker.ask("limits", small=self._bench.small), "machine": worker.machine}
        rates = f"{measured['flops'] / 1e9:,.0f} GFLOP/s by {measured['by']}, copies {measured['copy'] / 1e9:.1f} GB/s"
        log.info("%s: %s", self._precision, rates)
        return measured

    def worker(self, names: Sequence[str]) -> Worker:
        """A ready process with these contenders, which is started if it isn't there or has gone.

        Raises:
            WorkerError: it couldn't be made ready.
        """
        key = tuple(names)
        if key in self._workers and not self._workers[key].alive:
            self._workers.pop(key).close()
        if key not in self._workers:
            log.info("    making ready: %s", ", ".join(names))
            self._workers[key] = self._fresh.pop() if self._fresh else Worker(self._bench, self._precision)
            try:
                self._workers[key].ask("prepare", names=list(names))
            except WorkerError:
                self._workers.pop(key).close()
                raise
        return self._workers[key]

    def close(self) -> None:
        """End all of them."""
        for worker in (*self._workers.values(), *self._fresh):
            worker.close()
        self._workers.clear()
        self._fresh.clear()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def take_turns(
    pool: Pool, case: Case, *, groups: Groups, rounds: int, together: bool, until: float = math.inf
) -> dict[str, Found]:
    """Time everybody in turn, one go each and then the next round, after one go that isn't counted.

    Args:
        pool: the processes.
        case: what to do.
        groups: who is measured.
        rounds: how many goes count.
        together: whether all processes fit into the memory at once; otherwise each go starts its own.
        until: by `time.perf_counter`, when no further round begins. The first one does in any case.
    """
    found = {name: Found() for names in groups for name in names}
    for turn in range(-1 if together else 0, rounds):
        if turn > 0 and time.perf_counter() > until:
            log.info("    the time is up after %d of %d rounds", turn, rounds)
            break
        for names in groups:
            if not together:
                pool.close()
                _go(pool, case, names, found, counts=False)
            _go(pool, case, names, found, counts=turn >= 0)
    if not together:
        pool.close()
    return found


def _go(pool: Pool, case: Case, names: Sequence[str], found: dict[str, Found], *, counts: bool) -> None:
    """One go of each contender of a process; the result of one that doesn't count is kept."""
    for name in names:
        seen = found[name]
        if seen.problem:
            continue
        save, began = pool.folder / "result.npy", time.perf_counter()
        try:
            answer = pool.worker(names).ask(**case.question, name=name, save="" if counts else str(save))
        except WorkerError as error:
            seen.problem = str(error)
            log.info("    %s: %s", name, error)
            continue
        seen.hear(name, answer)
        if counts:
            seen.seconds.append(answer["seconds"])
            seen.sampling += [answer["sampling"]] if "sampling" in answer else []
            log.info("    %-21s %8.3f s", name, answer["seconds"])
        else:
            seen.result = _taken(save)
            log.info(
                "    %-21s %8.3f s with all that comes before, which doesn't count", name, time.perf_counter() - began
            )


def measure_memory(bench: Bench, precision: str, case: Case, *, name: str, found: Found) -> None:
    """The peak of one go in a process of its own. Of a whole clip it is the peak since the start, with the loading.

    Ours loads each part when the clip needs it, as for everybody who makes one.
    """
    whole = case.what == "end-to-end"
    try:
        with Worker(bench, precision) as worker:
            before = worker.ask("prepare", names=[name], own_files=whole)["before"]
            began = None if whole else worker.ask("forget_peak")["now"]
            found.hear(name, worker.ask(**case.question, name=name))
            found.peak = worker.ask("peak")["peak"]
            found.above = found.peak - before - estimate.weight_bytes(bench.config, precision)
            found.grown = None if began is None else found.peak - began
    except WorkerError as error:
        log.info("    memory of %s: %s", name, error)


def start_and_load(
    bench: Bench, precision: str, *, names: Sequence[str], rounds: int
) -> tuple[dict[str, Found], dict[str, Found]]:
    """Start-up and loading of each contender in turn, each time in a new process and from the disk, not from memory.

    Ours reads the UNet's file once more the first time that it sees it, for its hash; that isn't counted.
    """
    started, loaded = ({name: Found() for name in names} for _ in range(2))
    for turn in range(-1 if any(name in WAYS for name in names) else 0, rounds):
        for name in names:
            if turn < 0 and name not in WAYS:
                continue
            try:
                with Worker(bench, precision) as worker:
                    answer = worker.ask("start_and_load", name=name)
            except WorkerError as error:
                started[name].problem = loaded[name].problem = str(error)
                continue
            if turn >= 0:
                started[name].seconds.append(worker.seconds_to_start + answer["importing"])
                loaded[name].seconds.append(answer["loading"])
                log.info(
                    "    %-21s start-up %.2f s, loading %.2f s", name, started[name].seconds[-1], answer["loading"]
                )
    return started, loaded


def difference(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> float:
    """How far one result is from another, relative to the other's norm."""
    if ours.shape != theirs.shape:
        return float("inf")
    gap = np.linalg.norm(ours.astype(np.float64) - theirs.astype(np.float64))
    return float(gap / np.linalg.norm(theirs.astype(np.float64)))


def _taken(path: Path) -> npt.NDArray[np.float32]:
    try:
        return np.load(path)
    finally:
        path.unlink(missing_ok=True)
