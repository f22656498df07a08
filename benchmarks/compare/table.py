"""The figures as text: for the console, and as Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.compare.cases import LOAD, START_UP
from benchmarks.compare.results import OURS, WAYS, Results, Row, Session, ratio

HEAD = ("", "seconds", "ours takes", "× limit", "peak", "above weights", "differs by")
LEGEND = """\
seconds: median of the goes that count. ours takes: our time as a share of theirs; beside another way of ours, its
time as a share of that of the one named. × limit: times what the machine would take at its measured peak: matrix
products for networks, plain reading for loading. peak: memory of the process (of the GPU, there) in one go; above
weights: without the program's start and the three networks. differs by: relative error of the result against that of
the one named."""


def console(results: Results, session: Session) -> str:
    """All cases of a session, one under the other."""
    lines = [about(session), *(f"{name}: {limit_words(limit)}" for name, limit in session.limits.items()), ""]
    for rows in results.on(session.device).by_case():
        if rows[0].session != session.id:
            continue
        cells = [HEAD, *(_cells(row, rows) for row in rows)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
        lines.append(f"{rows[0].title}, {rows[0].precision}")
        lines += ["  " + "  ".join(f"{cell:>{width}}" if index else f"{cell:<{width}}"
                  for index, (cell, width) in enumerate(zip(line, widths, strict=True))) for line in cells]  # fmt: skip
        lines += [f"  {row.contender} says: {row.said}" for row in rows if row.said]
        lines += [f"  skipped: {row.contender}: {row.skipped}" for row in rows if row.skipped]
        lines.append("")
    return "\n".join([*lines, LEGEND])


def markdown(cases: Sequence[Sequence[Row]]) -> str:
    """One table of all cases."""
    lines = ["| what | format | who | seconds | ours takes | × limit | peak | above weights | differs by |",
             "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for rows in cases:
        for index, row in enumerate(rows):
            name, *cells = _cells(row, rows)
            first = (row.title, row.precision) if index == 0 else ("", "")
            shown = (f"**{name}**" if name in WAYS else name) + (f", which says: {row.said}" if row.said else "")
            if row.skipped:
                lines.append(f"| {first[0]} | {first[1]} | {shown} | {row.skipped} | | | | | |")
            else:
                lines.append(f"| {first[0]} | {first[1]} | {shown} | {' | '.join(cells)} |")
    return "\n".join(lines)


def about(session: Session) -> str:
    """The machine, in one line."""
    machine = session.machine
    more = f", {machine['processor']}" if machine.get("gpu") else ""
    versions = ", ".join(
        f"{name} {machine[name]}"
        for name in ("torch", "diffusers", "modelscope", "transformers", "accelerate")
        if name in machine
    )
    cores = f"{machine['cores']} cores, {machine['threads']} threads, {gigabytes(machine['memory'])}"
    return f"{session.device}{more}, {cores}; {versions}; commit {session.commit}, {session.id[:10]}"


def limit_words(limit: dict[str, float | str]) -> str:
    """A number format's limits, in one line."""
    peak, copy = float(limit["flops"]), float(limit["copy"])
    return f"matrix products {peak / 1e9:,.0f} GFLOP/s ({limit['by']}), copies {copy / 1e9:.0f} GB/s"


def gigabytes(count: float | None) -> str:
    """Bytes as people say them."""
    if count is None:
        return ""
    return f"{count / 1e9:.2f} GB" if abs(count) < 1e10 else f"{count / 1e9:.1f} GB"


def seconds(value: float | None) -> str:
    """A time with three digits."""
    if value is None:
        return ""
    if value < 0.1:
        return f"{value:.4f}"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def duration(value: float) -> str:
    """A time as people say it."""
    if value < 100:
        return f"{value:.0f} seconds" if value >= 10 else f"{value:.1f} seconds"
    return f"{value / 60:.0f} minutes" if value < 6000 else f"{value / 3600:.1f} hours"


def _cells(row: Row, rows: Sequence[Row]) -> tuple[str, ...]:
    about_files = row.what in {LOAD, START_UP}
    return (
        row.contender,
        seconds(row.median),
        _share(row, rows),
        f"{row.times_limit:.2f}" if row.times_limit else "",
        "" if about_files else gigabytes(row.peak),
        "" if about_files else gigabytes(row.above),
        f"{row.error:.1e} ({row.against})" if row.error is not None else "",
    )


def _share(row: Row, rows: Sequence[Row]) -> str:
    """Our time as a share of theirs; beside another way of ours its time, as a share of that of the first other one."""
    if row.contender not in WAYS:
        share = ratio(rows, row.contender)
        return f"{share:.2f} ×" if share else ""
    other = next((each.contender for each in rows if each.contender not in WAYS and each.median), "")
    share = ratio(rows, other, way=row.contender) if row.contender != OURS else None
    return f"{share:.2f} × ({other})" if share else ""
