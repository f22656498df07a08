"""The stand-in for the WebUI as a server, on the gradio of one of the WebUIs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chromium
import environments
import numpy as np
from safetensors.numpy import save_file

SERVER = environments.ROOT / "tests" / "webui" / "stand_in" / "serve.py"
LORA = "style"
"""A LoRA for the demo model that every server has."""

HARMLESS = re.compile(r"site-packages/(?:starlette|fastapi|gradio/routes)|\[DEP0")
"""Warnings that the old servers give by themselves."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running stand-in."""

    url: str
    data: Path
    log: Path

    @property
    def outputs(self) -> Path:
        return self.data / "outputs" / "txt2video-videos"

    def look(self) -> dict[str, Any]:
        """What the server's inside says."""
        with urllib.request.urlopen(f"{self.url}test/look", timeout=10) as reply:
            return json.load(reply)

    def set_options(self, **options: Any) -> None:
        """Change settings."""
        data = json.dumps(options).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.url}test/options", data=data), timeout=10).close()

    def file(self, name: str) -> Path:
        """The clip of a name, wherever in the outputs folder."""
        (found,) = self.outputs.rglob(name)
        return found

    def complaints(self) -> list[str]:
        """Warnings and tracebacks on the server's console."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        marks = ("Warning:", "Traceback (most", "*** ", "ERROR")
        return [line for line in lines if any(mark in line for mark in marks) and not HARMLESS.search(line)]


@contextlib.contextmanager
def serving(host: str, folder: Path) -> Iterator[Server]:
    """A stand-in on the gradio of a WebUI."""
    python = environments.python_of(host)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cwd, log = folder / "cwd", folder / "console.txt"
    cwd.mkdir(parents=True)
    _put_lora(folder / "data" / "models" / "ModelScope" / "lora")
    environment = {**os.environ, "STAND_IN_DATA": str(folder / "data"), "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    environment |= {"no_proxy": "127.0.0.1,localhost", "PYTHONDONTWRITEBYTECODE": "1"}
    # Threads that wait for each other on fewer cores than there are of them all take many times as long.
    at_once = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // at_once)))
    for name in ("PYTHONPATH", "PYTHONWARNINGS", "VIRTUAL_ENV"):
        environment.pop(name, None)
    with log.open("w") as console:
        process = subprocess.Popen(
            [python, "-W", "default", SERVER, "--port", str(port)],
            cwd=cwd, env=environment, stdin=subprocess.PIPE, stdout=console, stderr=console,
        )  # fmt: skip
    try:
        server = Server(f"http://127.0.0.1:{port}/", folder / "data", log)

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            return "Serving on gradio" in log.read_text()

        chromium.until(ready, what="the stand-in serves", patience=120)
        yield server
    finally:
        process.kill()
        process.communicate()


def _put_lora(folder: Path) -> None:
    layer = "unet.transformer_in.transformer_blocks.0.attn1.to_q.lora"
    folder.mkdir(parents=True)
    pair = {
        f"{layer}.up.weight": np.full((32, 2), 0.01, np.float32),
        f"{layer}.down.weight": np.full((2, 32), 0.01, np.float32),
    }
    save_file(pair, folder / f"{LORA}.safetensors")
