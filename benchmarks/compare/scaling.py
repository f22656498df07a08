"""`python -m benchmarks scaling`: our UNet step's time and memory against frames, size and batch."""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.compare import document, estimate, measuring, scaling_table, weights
from benchmarks.compare.cases import STEP, Case
from benchmarks.compare.measuring import Found, Pool
from benchmarks.compare.options import FOLDER
from benchmarks.compare.processes import Bench, Worker, WorkerError
from benchmarks.compare.results import OURS, WAYS, new_session
from benchmarks.compare.sizes import CELL, FULL, SMALL, Size

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Point:
    """One step at one amount; `axis` says of what."""

    axis: str
    amount: int
    size: Size


def points(*, side: int, most_frames: int, most_batch: int) -> list[Point]:
    """Frames doubled from 16 on, places quadrupled, and the batch doubled; `side` is in latent cells."""
    pixels = side * CELL
    found = [Point("frames", 16 * 2**power, Size(16 * 2**power, pixels, pixels)) for power in range(8)
             if 16 * 2**power <= most_frames]  # fmt: skip
    for factor in (1, 2, 4):
        across = pixels * factor
        found.append(Point("places", (side * factor) ** 2, Size(16, across, across)))
    batches = [Size(16, pixels, pixels, batch) for batch in (1, 2, 4, 8) if batch <= most_batch]
    return found + [Point("batch", size.batch, size) for size in batches]


def main(arguments: Sequence[str]) -> int:
    """Measure each point, fit, show, keep."""
    options = _parser().parse_args(arguments)
    folder = (options.folder or FOLDER / ("small" if options.small else "full")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(folder, SMALL if options.small else FULL, options.device, options.small, options.threads)
    weights.write(folder, bench.config, [weights.ORIGINAL])
    with Pool(bench, options.precision) as pool:
        found = pool.limits()
    session = new_session(["scaling", *arguments], {}).with_limits(options.precision, found)
    wanted = points(side=options.latents, most_frames=options.most_frames, most_batch=options.most_batch)
    name = options.contender
    rows = _measure(bench, options.precision, wanted, name=name, rounds=options.rounds,
                    peak=found["flops"], until=time.perf_counter() + 60 * options.time)  # fmt: skip
    keep = document.scaling_file(options.device) if options.write_docs else options.json or FOLDER / "scaling.json"
    keep.parent.mkdir(parents=True, exist_ok=True)
    kept = {"session": asdict(session), "precision": options.precision, "contender": name, "rows": rows}
    keep.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(scaling_table.markdown(keep))
    print(f"\nkept in {keep}")
    if options.write_docs:
        document.write_all()
    return 0


def _measure(
    bench: Bench, precision: str, wanted: Sequence[Point], *, name: str, rounds: int, peak: float, until: float
) -> list[dict[str, object]]:
    """A row for each point that fits into the memory and the time: times first, all in one process, then the peaks."""
    rows: list[dict[str, object]] = []
    with Worker(bench, precision) as worker:
        worker.ask("prepare", names=[name])
        for point in wanted:
            case = Case(STEP, point.size)
            expected = (rounds + 2) * estimate.seconds_of_round(case, bench.config, contenders=1, peak=peak)
            if expected > until - time.perf_counter():
                log.info("skipped: %s %d would take about %.0f s", point.axis, point.amount, expected)
                continue
            try:
                answers = [worker.ask(**case.question, name=name) for _ in range(rounds + 1)]
            except WorkerError as error:
                log.info("skipped: %s %d: %s", point.axis, point.amount, error)
                break
            times = [answer["seconds"] for answer in answers[1:]]
            log.info("%s %d: %.3f s", point.axis, point.amount, statistics.median(times))
            found = Found()
            for answer in answers:
                found.hear(name, answer)
            rows.append({"axis": point.axis, "amount": point.amount, "size": point.size.name, "seconds": times})
    sizes = {point.size.name: point.size for point in wanted}
    peaks: dict[str, Found] = {}
    for row in rows:
        size = str(row["size"])
        if size not in peaks:
            peaks[size] = Found()
            measuring.measure_memory(bench, precision, Case(STEP, sizes[size]), name=name, found=peaks[size])
        row["above"] = peaks[size].grown
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks scaling",
        description="Times one UNet step of ours against frames (doubled from 16 on), places (quadrupled twice) and "
        "batch, measures its memory above the weights, and fits the exponents.",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda; default: %(default)s")
    parser.add_argument("--precision", default="bf16", help="fp32, fp16 or bf16; default: %(default)s")
    parser.add_argument("--latents", type=int, default=16, help="latent cells along a side; default: %(default)s")
    parser.add_argument("--most-frames", type=int, default=128, help="default: %(default)s")
    parser.add_argument("--most-batch", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="goes that count; default: %(default)s")
    parser.add_argument("--time", type=float, default=30, help="minutes; what doesn't fit in is skipped")
    parser.add_argument("--contender", choices=WAYS, default=OURS, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="of a CPU; default: torch's own choice")
    parser.add_argument("--small", action="store_true", help="a tiny network, to try the bench itself")
    parser.add_argument("--folder", type=Path, help="where the random weights lie; default: build/compare/full")
    parser.add_argument("--json", type=Path, help="the file for the figures; default: build/compare/scaling.json")
    parser.add_argument("--write-docs", action="store_true", help="keep the figures in docs/, and write the page again")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
