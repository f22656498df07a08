"""What was measured, as rows that JSON keeps; newer rows take the place of older ones on the same kind of machine."""

from __future__ import annotations

import datetime
import json
import platform
import re
import shlex
import shutil
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.compare.processes import ROOT
from t2v_core.models.processor import fact

OURS = "ours"
COMPILED, GRAPHED = "compiled", "graphed"
WAYS = (OURS, f"{OURS} {GRAPHED}", f"{OURS} {COMPILED}", f"{OURS} {COMPILED} {GRAPHED}")
"""Ours by how the network's kernels get to a GPU: each further word is a setting of the program."""

_FAR_FROM_USUAL = ("AMX", "AVX2")
"""Kernels that make a processor much faster or slower than others of its name, which have AVX-512."""
_GENERATIONS = {("AMD", "26"): "Zen 5"}
"""By maker and family: processors twice as fast as others of their name and kernels."""
_UNTOLD = re.compile(r"\((R|TM)\)| Processor$")


@dataclass(frozen=True, slots=True)
class Session:
    """When, where and how something was measured. `limits` are the machine's own, by number format."""

    id: str
    command: str
    commit: str
    machine: dict[str, Any]
    limits: dict[str, dict[str, Any]] = field(default_factory=dict)

    def with_limits(self, precision: str, measured: dict[str, Any]) -> Session:
        """The session with what `measuring.limits` found in a number format, and what torch says of the machine."""
        limit = {key: measured[key] for key in ("flops", "by", "copy")}
        machine = {key: value for key, value in measured["machine"].items() if key != "free"}
        return replace(self, machine={**self.machine, **machine}, limits={**self.limits, precision: limit})

    @property
    def device(self) -> str:
        """What computed: the GPU's name, or the processor's without what all of its maker's have in theirs."""
        name = self.machine.get("gpu") or _UNTOLD.sub("", self.machine["processor"])
        maker, _, _ = name.partition(" ")
        generation = _GENERATIONS.get((maker, self.machine.get("family", "")))
        name = f"{name} ({generation})" if generation else name
        has = "AMX" if self.machine.get("tiles") else self.machine.get("vectors")
        return f"{name} with {has}" if has in _FAR_FROM_USUAL else name


@dataclass(frozen=True, slots=True)
class Row:
    """One contender's figures for one case.

    `limit` is the seconds that the machine would take at its measured peak. `peak` is the process's or the GPU's memory
    in bytes, `above` the part of it above the program's start and the weights. `error` is relative, `against` whose
    result. `sampling` is the part of `seconds` that the steps took, of a whole clip. `said` is what its user was told
    meanwhile, `skipped` why there are no figures.
    """

    what: str
    title: str
    size: str
    precision: str
    contender: str
    session: str
    seconds: tuple[float, ...] = ()
    sampling: tuple[float, ...] = ()
    steps: int = 0
    limit: float | None = None
    peak: int | None = None
    above: int | None = None
    error: float | None = None
    against: str = ""
    said: str = ""
    skipped: str = ""

    @property
    def median(self) -> float | None:
        """Seconds of the middle go."""
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def times_limit(self) -> float | None:
        """How many times the machine's limit it took."""
        return self.median / self.limit if self.median and self.limit else None

    @property
    def case(self) -> tuple[str, str, str, int]:
        """What rows of several contenders have in common."""
        return self.what, self.size, self.precision, self.steps


@dataclass(slots=True)
class Results:
    """All rows and the sessions that they come from."""

    sessions: dict[str, Session] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def add(self, session: Session, rows: Iterable[Row]) -> None:
        """Put rows in. What was said of their cases on such a device goes, so that a case there is of one session.

        What was skipped for everybody takes the place of nothing.
        """
        same = self.on(session.device)
        rows, old = list(rows), {row.case for row in same.rows}
        timed = {row.case for row in rows if row.seconds}
        rows = [row for row in rows if row.case in timed or row.case not in old]
        new = {row.case for row in rows}
        self.sessions[session.id] = session
        self.rows = [row for row in self.rows if row.case not in new or row.session not in same.sessions] + rows
        used = {row.session for row in self.rows}
        self.sessions = {key: value for key, value in self.sessions.items() if key in used or key == session.id}

    def devices(self) -> list[str]:
        """What was measured on, the first one first."""
        return list(dict.fromkeys(session.device for _, session in sorted(self.sessions.items())))

    def on(self, device: str) -> Results:
        """What was measured on one device."""
        sessions = {key: session for key, session in self.sessions.items() if session.device == device}
        return Results(sessions, [row for row in self.rows if row.session in sessions])

    def by_case(self) -> list[list[Row]]:
        """Rows of one case together, ours first; of results on one device."""
        cases: dict[tuple[str, str, str, int], list[Row]] = {}
        for row in self.rows:
            cases.setdefault(row.case, []).append(row)
        return [sorted(rows, key=lambda row: row.contender not in WAYS) for rows in cases.values()]

    def write(self, path: Path) -> None:
        """Keep everything as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "sessions": [asdict(session) for session in self.sessions.values()],
            "rows": [asdict(row) for row in self.rows],
        }
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> Results:
    """What a file holds; nothing if there is none."""
    if not path.exists():
        return Results()
    document = json.loads(path.read_text(encoding="utf-8"))
    sessions = {row["id"]: Session(**row) for row in document["sessions"]}
    rows = [
        Row(**{**row, "seconds": tuple(row["seconds"]), "sampling": tuple(row["sampling"])}) for row in document["rows"]
    ]
    return Results(sessions, rows)


def ratio(rows: Sequence[Row], contender: str, *, way: str = OURS) -> float | None:
    """Our time in a case as a share of another's."""
    medians = {row.contender: row.median for row in rows}
    ours, theirs = medians.get(way), medians.get(contender)
    return ours / theirs if ours and theirs else None


def new_session(command: Sequence[str], packages: dict[str, str]) -> Session:
    """A session of this moment on this machine; `command` are the words after "python -m benchmarks"."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    facts = {
        "processor": processor(),
        "cores": psutil.cpu_count(logical=False),
        "memory": psutil.virtual_memory().total,
        "system": platform.system(),
        "python": platform.python_version(),
        **packages,
    }
    return Session(id=now, command=f"python -m benchmarks {shlex.join(command)}", commit=_commit(), machine=facts)


def processor() -> str:
    """The processor's name as the kernel gives it."""
    return fact("model name") or platform.processor() or platform.machine()


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    done = subprocess.run(
        [git, "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
