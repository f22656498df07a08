"""`python -m benchmarks compare`: what is measured, in which order, and what becomes of the figures."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence

from benchmarks.compare import document, estimate, measuring, table, weights
from benchmarks.compare.cases import END_TO_END, LOAD, Case, is_about_files
from benchmarks.compare.measuring import Found, Pool
from benchmarks.compare.options import FOLDER, PEERS, Wish, parser, versions, wish_of
from benchmarks.compare.processes import ROOT, Worker
from benchmarks.compare.results import OURS, WAYS, Row, Session, new_session, read

log = logging.getLogger(__name__)

_KEPT_FREE = 1.5e9


def main(arguments: Sequence[str]) -> int:
    """Measure, show, keep."""
    options = parser().parse_args(arguments)
    keep = document.results_file(options.device) if options.write_docs else options.json or FOLDER / "results.json"
    if options.only_docs:
        document.write_all()
        return 0
    wish = wish_of(options)
    session = new_session(["compare", *arguments], versions(wish.contenders))
    results = read(keep)
    until = time.perf_counter() + wish.seconds
    weights.write(wish.bench.folder, wish.bench.config, wish.layouts)
    for precision in wish.precisions:
        for measured, rows in _measure(wish, precision, session, until=until):
            session = measured
            results.add(session, rows)
            results.write(keep)  # case by case: whoever ends the program in the next one loses no other
    print(table.console(results, session))
    print(f"\nkept in {keep}")
    if options.write_docs:
        document.write_all()
        print(f"docs/performance.md and its pictures are written again from {keep.relative_to(ROOT)}")
    return 0


def _measure(wish: Wish, precision: str, session: Session, *, until: float) -> Iterator[tuple[Session, list[Row]]]:
    """Case by case in one number format: the session with this format's limits, and the case's rows."""
    with Pool(wish.bench, precision) as pool:
        found = pool.limits()
        session = session.with_limits(precision, found)
        limit, free = session.limits[precision], found["machine"]["free"]
        for case in wish.cases:
            if is_about_files(case):
                continue  # below, both at once
            who, why_not = _who(case, wish, precision, peak=limit["flops"], free=free, until=until)
            for name, reason in why_not.items():
                log.info("skipped: %s, %s, %s: %s", case.title, precision, name, reason)
            seen = _time(case, wish, pool, precision, who=who, free=free, until=until) if who else {}
            yield session, _rows(case, wish, session, precision, seen=seen, why_not=why_not)
    if files := [case for case in wish.cases if is_about_files(case)]:
        yield session, _about_files(wish, precision, session, files)


def _who(
    case: Case, wish: Wish, precision: str, *, peak: float, free: int, until: float
) -> tuple[list[str], dict[str, str]]:
    """Who can do a case, and why the others can't."""
    config, who, why_not = wish.bench.config, [], {}
    weight = estimate.weight_bytes(config, precision)
    for name in wish.who(case):
        needed = weight + estimate.memory_needed(case, config, contender=name, precision=precision)
        if needed > free - _KEPT_FREE / 3:
            why_not[name] = f"needs about {needed / 1e9:.0f} GB of memory, and {free / 1e9:.0f} GB are free"
        elif name == "ModelScope" and case.what == END_TO_END and wish.bench.config.noise.num_timesteps % case.steps:
            why_not[name] = f"its sampler can't take {case.steps} steps, which don't divide 1000"
        else:
            who.append(name)
    seconds = (wish.rounds + 1 + wish.memory) * estimate.seconds_of_round(case, config, contenders=len(who), peak=peak)
    if seconds > until - time.perf_counter():
        reason = f"would take about {seconds / 60:.0f} minutes, more than --time has left"
        return [], dict.fromkeys(wish.who(case), reason)
    return who, why_not


def _time(
    case: Case, wish: Wish, pool: Pool, precision: str, *, who: list[str], free: int, until: float
) -> dict[str, Found]:
    """Times, results and memory of one case."""
    log.info("%s, %s", case.title, precision)
    config = wish.bench.config
    ours = [[name] for name in who if name in WAYS]
    peers = [name for name in who if name not in WAYS]
    groups = [*ours, *([peers] if peers else [])]
    needs = [max(estimate.memory_needed(case, config, contender=name, precision=precision) for name in names)
             for names in groups]  # fmt: skip
    # On a GPU each process keeps what its goes took.
    beside = sum(needs) if wish.bench.device.startswith("cuda") else max(needs)
    weight = estimate.weight_bytes(config, precision)
    together = len(groups) * (weight + 0.5e9) + beside + _KEPT_FREE < free
    if not together and len(groups) > 1:
        log.info("    the weights don't fit into the memory several times: process by process")
    together = together or len(groups) == 1
    seen = measuring.take_turns(pool, case, groups=groups, rounds=wish.rounds, together=together, until=until)
    if wish.memory and weight + beside + _KEPT_FREE > free - len(groups) * weight:
        pool.close()  # what waits there would be in the way
    for name, found in seen.items():
        if wish.memory and not found.problem:
            measuring.measure_memory(wish.bench, precision, case, name=name, found=found)
    return seen


def _rows(
    case: Case,
    wish: Wish,
    session: Session,
    precision: str,
    *,
    seen: dict[str, Found],
    why_not: dict[str, str],
) -> list[Row]:
    """A row for each contender, with how far ours is from a peer, and each peer from the other."""
    limit = estimate.arithmetic(case, wish.bench.config) / session.limits[precision]["flops"]
    rows = []
    for name in wish.who(case):
        found = seen.get(name, Found())
        others = [peer for peer in (*PEERS, OURS) if peer != name and peer in seen and seen[peer].result is not None]
        error = None
        if others and found.result is not None:
            theirs = seen[others[0]].result
            assert theirs is not None
            error = measuring.difference(found.result, theirs)
        row = Row(
            what=case.what,
            title=case.title,
            size=case.size.name,
            precision=precision,
            contender=name,
            session=session.id,
            seconds=tuple(found.seconds),
            sampling=tuple(found.sampling),
            steps=case.steps,
            limit=limit,
            peak=found.peak,
            above=found.above,
            error=error,
            against=others[0] if error is not None else "",
            said=" ".join(found.said),
            skipped=found.problem or why_not.get(name, ""),
        )
        rows.append(row)
    return rows


def _about_files(wish: Wish, precision: str, session: Session, cases: list[Case]) -> list[Row]:
    """Rows on start-up and loading."""
    log.info("start-up and loading, %s", precision)
    with Worker(wish.bench, precision) as worker:
        disk = worker.ask("read_rate")
    started, loaded = measuring.start_and_load(wish.bench, precision, names=wish.who(cases[0]), rounds=wish.rounds)
    rows = []
    for case in cases:
        limit = disk["bytes"] / disk["rate"] if case.what == LOAD else None
        for name, found in (loaded if case.what == LOAD else started).items():
            row = Row(case.what, case.title, "", precision, name, session.id, tuple(found.seconds), limit=limit,
                      skipped=found.problem)  # fmt: skip
            rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
