"""Writes docs/performance.md's tables and pictures from the figures kept beside it: no number is copied by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.compare import picture, scaling_table, table
from benchmarks.compare.cases import DECODE, END_TO_END, GUIDED, STEP, WHATS
from benchmarks.compare.processes import ROOT
from benchmarks.compare.results import OURS, Results, Row, read

DOCS = ROOT / "docs"
PAGE = DOCS / "performance.md"
MEASUREMENTS = DOCS / "measurements"
USUAL_STEPS = 25
DRAWN = (STEP, GUIDED, DECODE, END_TO_END)
NAMES = {"cpu": "On a CPU", "cuda": "On a GPU"}


def results_file(device: str) -> Path:
    """Where the figures of a kind of device are kept."""
    return MEASUREMENTS / f"compare-{device.partition(':')[0]}.json"


def scaling_file(device: str) -> Path:
    """Where the figures on growth are kept."""
    return MEASUREMENTS / f"scaling-{device.partition(':')[0]}.json"


def write_all() -> None:
    """Every part between markers, and the pictures."""
    parts = {"how-long": [], "compare": [], "scaling": []}
    for device, name in NAMES.items():
        results = read(results_file(device))
        for place, machine in enumerate(results.devices()):
            there = results.on(machine)
            parts["how-long"].append(_how_long(there, f"{name}, {machine}"))
            parts["compare"].append(_compare(there, f"{name}, {machine}", image=f"{device}-{place + 1}"))
        if scaling_file(device).exists():
            parts["scaling"].append(scaling_table.markdown(scaling_file(device)))
    text = PAGE.read_text(encoding="utf-8")
    for name, sections in parts.items():
        if any(sections):
            text = put(text, name, "\n\n".join(filter(None, sections)))
    PAGE.write_text(text, encoding="utf-8")


def put(text: str, name: str, content: str) -> str:
    """The text with something else between `<!-- measured: NAME -->` and `<!-- end -->`.

    Raises:
        ValueError: there is no such place, or more than one.
    """
    pattern = re.compile(rf"(<!-- measured: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    changed, count = pattern.subn(lambda found: f"{found[1]}\n{content}\n\n{found[2]}", text)
    if count != 1:
        raise ValueError(f"{count} places for {name}")
    return changed


def _how_long(results: Results, title: str) -> str:
    """What people who make videos want to know, from the whole clips that were measured."""
    lines = [f"| {title} | format | {USUAL_STEPS} steps | with Diffusers | with ModelScope's code | "
             "memory |", "|---|---|---|---|---|---|"]  # fmt: skip
    clips = (rows for rows in results.by_case() if rows[0].what == END_TO_END)
    for rows in sorted(clips, key=lambda rows: (_pixels(rows[0].size), rows[0].precision)):
        by_name = {row.contender: row for row in rows}
        size = rows[0].size.replace("x", "×", 1)
        width_height, _, frames = size.rpartition("x")
        timed = [by_name.get(name) for name in (OURS, "Diffusers", "ModelScope")]
        times = [table.duration(usual_seconds(row)) if row and row.sampling else "" for row in timed]
        memory = table.gigabytes(by_name[OURS].peak) if OURS in by_name else ""
        lines.append(f"| {frames} frames, {width_height} | {rows[0].precision} | {' | '.join(times)} | {memory} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def usual_seconds(row: Row) -> float:
    """Seconds of a whole clip of the usual number of steps, from one of fewer: each step takes as long as the other."""
    middle = sorted(range(len(row.seconds)), key=row.seconds.__getitem__)[len(row.seconds) // 2]
    return row.seconds[middle] + row.sampling[middle] * (USUAL_STEPS / row.steps - 1)


def _compare(results: Results, title: str, *, image: str) -> str:
    cases = sorted(results.by_case(), key=_order)
    sessions = [results.sessions[key] for key in {row.session for row in results.rows}]
    newest = max(sessions, key=lambda session: session.id)
    file = DOCS / "images" / f"performance-{image}.svg"
    file.parent.mkdir(parents=True, exist_ok=True)
    machine = newest.machine
    where = newest.device if machine.get("gpu") else f"{newest.device}, {machine['cores']} cores"
    drawn = [rows for rows in cases if rows[0].what in DRAWN]
    file.write_text(picture.draw(drawn, heading="Time taken, the less the better",
                                 note=f"{where}, torch {machine['torch']}"), encoding="utf-8")  # fmt: skip
    measured = [f"- `{session.command}`: {table.about(session)}. " +
                "; ".join(f"{name}: {table.limit_words(limit)}" for name, limit in session.limits.items()) + "."
                for session in sorted(sessions, key=lambda session: session.id)]  # fmt: skip
    alt = "Bars: how long each program takes, and the machine's limit"
    pieces = [
        f"### {title}",
        f"![{alt}](images/{file.name})",
        table.markdown(cases),
        "Measured with",
        "\n".join(measured),
    ]
    return "\n\n".join(pieces)


def _order(rows: Sequence[Row]) -> tuple[int, str, int]:
    return WHATS.index(rows[0].what), rows[0].precision, _pixels(rows[0].size)


def _pixels(size: str) -> int:
    """How many a clip of this size has in all of its frames; what has no size counts as one."""
    return math.prod(map(int, re.findall(r"\d+", size)))
