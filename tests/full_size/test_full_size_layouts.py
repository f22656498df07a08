"""The 1.7B network at its real size, random weights in fp16: every layout gives the same video, in little memory.

Writes some 5 GB into the temporary folder and takes minutes: `pytest -m full_size`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from model_layouts import LAYOUTS

from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.rendering.local import LocalRenderer
from t2v_core.request import GenerationRequest
from t2v_core.run import Run

pytestmark = [pytest.mark.full_size, pytest.mark.timeout(3600)]

CONFIG = ModelConfig()
SMALL_CLIP = GenerationRequest(prompt="a cat", seed=1, steps=1, width=64, height=64, frames=2, precision="bf16")


def test_every_layout_gives_the_same_video(states, host, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    digests = {}
    for name, layout in LAYOUTS.items():
        root = host.models_folders[0]
        folder = root / "model"
        layout(folder, CONFIG, states)
        request = dataclasses.replace(SMALL_CLIP, model=str(folder))
        renderer = LocalRenderer(host)
        frames = renderer.render(renderer.resolve(request), Run()).frames[:]
        assert frames.std() > 0
        digests[name] = hashlib.sha256(frames.tobytes()).hexdigest()
        del renderer
        shutil.rmtree(root)
    assert len(set(digests.values())) == 1, digests


# The kernel's own record of the most memory that a process held; getrusage's would begin with this test's.
PEAK = """
import json, re, sys
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""
LOADING = (
    PEAK
    + """
import torch
from pathlib import Path
from t2v_core.models.catalogue import find_model
from t2v_core.models.loading import load
model = find_model("t2v", [Path(sys.argv[1]) / "ModelScope"])
before = peak()
networks = load(model, dtype=getattr(torch, sys.argv[2]))
kept = sum(p.nbytes for part in (networks.text, networks.unet, networks.autoencoder) for p in part.parameters())
print(json.dumps({"kept": kept, "before": before, "peak": peak()}))
"""
)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the record in /proc")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_loading_never_holds_a_second_copy(original, dtype):
    used = measured([sys.executable, "-c", LOADING, str(original), dtype])
    assert used["kept"] == 2 * (1_411_233_860 + 83_653_863 + 340_387_840)
    assert used["peak"] <= 1.15 * used["kept"], used


GENERATING = (
    PEAK
    + """
from t2v_core.frontends.cli import main
code = main(sys.argv[1:])
print(json.dumps({"code": code, "peak": peak()}))
"""
)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the record in /proc")
def test_sixteen_frames_of_256_pixels_fit_into_8_gb(original, tmp_path):
    flags = [
        "--precision",
        "bf16",
        "--steps",
        "2",
        "--frames",
        "16",
        "--width",
        "256",
        "--height",
        "256",
        "--seed",
        "1",
        "--models-folder",
    ]
    command = [sys.executable, "-c", GENERATING, "generate", "a cat", *flags, str(original), "--output", str(tmp_path)]
    used = measured(command)
    assert used["code"] == 0
    assert used["peak"] <= 8e9, used
    assert [path.suffix for path in tmp_path.iterdir()] == [".mp4"]


def measured(command: list[str]) -> dict[str, int]:
    """What a process says on its last line, in an environment of our own."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])
