"""The other end of `worker`: processes that are started, asked and ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.rendering.measures import AUTO

ROOT = Path(__file__).parents[2]
_LAST_LINES = 2000


def environment(folder: Path) -> dict[str, str]:
    """The variables of a process that measures: it finds our code first, and what else its starter finds."""
    # Relative ones too, for it works in another folder.
    others = [str(Path(path).absolute()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    # Ours remembers hashes and measurements: not among the user's own.
    return {
        **os.environ,
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *others]),
    }


class WorkerError(Exception):
    """A worker could not do what it was asked; says why in one line."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all workers of a session have in common.

    `threads` 0 leaves their number to torch; `rung` is how ours saves memory.
    """

    folder: Path
    config: ModelConfig
    device: str
    small: bool = False
    threads: int = 0
    rung: str = AUTO


class Worker:
    """One process with some contenders in one number format; for a `with` block, which ends it."""

    def __init__(self, bench: Bench, precision: str) -> None:
        self._log = (bench.folder / f"worker-{os.getpid()}-{time.monotonic_ns()}.log").open("w+b")
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.compare.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment(bench.folder),
            cwd=bench.folder,
            encoding="utf-8",
        )
        self._answer()
        self.machine = self.ask(
            "begin",
            folder=str(bench.folder),
            device=bench.device,
            precision=precision,
            config=bench.config.to_dict(),
            threads=bench.threads,
            rung=bench.rung,
        )
        self.seconds_to_start = time.perf_counter() - began

    def ask(self, do: str, **question: Any) -> dict[str, Any]:
        """Have something done.

        Raises:
            WorkerError: it failed, or the process has gone.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **question}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise WorkerError(self._why_gone()) from None
        return self._answer()

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(self._why_gone())
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _why_gone(self) -> str:
        code = self._process.wait()
        if code == -9:
            return "the system ended the process: out of memory"
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - _LAST_LINES))
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"the process ended with {code}: {lines[-1] if lines else 'it said nothing'}"

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()
        Path(self._log.name).unlink(missing_ok=True)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
