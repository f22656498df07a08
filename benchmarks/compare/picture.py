"""Bars of who takes how long, as an SVG that is legible on light and on dark pages, drawn without a library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from benchmarks.compare.results import OURS, WAYS, Row
from benchmarks.compare.table import seconds

WIDTH, LEFT, RIGHT, MARGIN = 880, 130, 168, 28
LETTER = 8
"""As wide as a name's letters are at most, on the average: a long one gets more room than `LEFT`."""
BAR, GAP, TITLE, BETWEEN, HEADER, FOOTER = 20, 6, 26, 20, 72, 46

_STYLE = """
svg { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
.card { fill: #ffffff; stroke: #d8dee4; }
.head { fill: #1f2328; font-size: 17px; font-weight: 600; }
.title { fill: #1f2328; font-weight: 600; }
.name, .figure { fill: #1f2328; }
.note { fill: #59636e; font-size: 12px; }
.track { fill: #f0f2f5; }
.theirs { fill: #a3adb8; }
.ours { fill: #0f7b6c; }
.limit { stroke: #b3471d; stroke-width: 2; }
.mine { font-weight: 600; }
@media (prefers-color-scheme: dark) {
  .card { fill: #161b22; stroke: #30363d; }
  .head, .title, .name, .figure { fill: #e6edf3; }
  .note { fill: #9198a1; }
  .track { fill: #21262d; }
  .theirs { fill: #626c77; }
  .ours { fill: #2fb8a0; }
  .limit { stroke: #ff9d66; }
}
"""


def draw(cases: Sequence[Sequence[Row]], *, heading: str, note: str) -> str:
    """The SVG's text: a group for each case, with a mark where the machine's limit lies.

    Args:
        cases: rows by case, ours first; those without a time are left out.
        heading: what it's about.
        note: the machine.
    """
    groups = [[row for row in rows if row.median] for rows in cases]
    groups = [rows for rows in groups if len(rows) > 1]
    left = max([LEFT, *(MARGIN + LETTER * len(row.contender) + 10 for rows in groups for row in rows)])
    y, parts = float(HEADER), [_text(MARGIN, 36, heading, kind="head"), _text(MARGIN, 56, note, kind="note")]
    for rows in groups:
        parts.append(_text(MARGIN, y + 14, f"{rows[0].title}, {rows[0].precision}", kind="title"))
        y += TITLE
        longest = max(row.median or 0.0 for row in rows)
        top = y
        for row in rows:
            parts += _bar(row, rows, y=y, left=left, longest=longest)
            y += BAR + GAP
        limit = rows[0].limit
        if limit:
            x = left + limit / longest * (WIDTH - left - RIGHT)
            parts.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 3:.1f}" y2="{y - GAP + 3:.1f}"/>')
        y += BETWEEN
    parts.append(f'<line class="limit" x1="{MARGIN}" x2="{MARGIN}" y1="{y}" y2="{y + 14}"/>')
    parts.append(_text(MARGIN + 8, y + 12, "what this machine would take at its measured peak", kind="note"))
    height = y + FOOTER
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(heading)}">\n<style>{_STYLE}</style>\n'
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="10"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _bar(row: Row, rows: Sequence[Row], *, y: float, left: int, longest: float) -> list[str]:
    taken = row.median or 0.0
    room = WIDTH - left - RIGHT
    width, mine = max(2.0, taken / longest * room), row.contender in WAYS
    first = next((other.median for other in rows if other.contender == OURS), None)
    share = "" if mine or not first else f", {taken / first:.2f} × ours"
    middle = y + BAR - 5.5
    return [
        _text(left - 10, middle, row.contender, kind="name mine" if mine else "name", end=True),
        f'<rect class="track" x="{left}" y="{y}" width="{room}" height="{BAR}" rx="4"/>',
        f'<rect class="{"ours" if mine else "theirs"}" x="{left}" y="{y}" width="{width:.1f}" height="{BAR}" rx="4"/>',
        _text(left + room + 10, middle, f"{seconds(taken)} s{share}", kind="figure mine" if mine else "figure"),
    ]


def _text(x: float, y: float, words: str, *, kind: str, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{anchor}>{escape(words)}</text>'
