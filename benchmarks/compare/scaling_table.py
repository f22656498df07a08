"""The figures on growth as a table, with the exponent of the power law that fits them."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.compare.estimate import fitted_exponent
from benchmarks.compare.results import Session
from benchmarks.compare.table import about, gigabytes, seconds


def markdown(path: Path) -> str:
    """A table for each axis: amounts, times, the factor from one to the next, memory above the weights."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    session = Session(**kept["session"])
    parts = [f"One UNet step, {kept['precision']}, {kept['contender']}: {about(session)}. `{session.command}`"]
    for axis in dict.fromkeys(row["axis"] for row in kept["rows"]):
        parts.append(_axis([row for row in kept["rows"] if row["axis"] == axis], axis))
    return "\n\n".join(parts)


def _axis(rows: list[dict[str, Any]], axis: str) -> str:
    lines = [f"| {axis} | clip | seconds | of the one before | above the weights |", "|---|---|---|---|---|"]
    times = [statistics.median(row["seconds"]) for row in rows]
    for index, row in enumerate(rows):
        growth = f"{times[index] / times[index - 1]:.2f} ×" if index else ""
        lines.append(
            f"| {row['amount']} | {row['size']} | {seconds(times[index])} | {growth} | {gigabytes(row.get('above'))} |"
        )
    if len(rows) > 1:
        amounts = [float(row["amount"]) for row in rows]
        fitted = f"time grows with {axis}^{fitted_exponent(amounts, times):.2f}"
        above = [float(row.get("above") or 0) for row in rows]
        if min(above) > 0:
            fitted += f", memory above the weights with {axis}^{fitted_exponent(amounts, above):.2f}"
        lines += ["", f"Fitted: {fitted}."]
    return "\n".join(lines)
