"""Five hundred frames with the demo model: no more memory than a short clip takes, no seam, and one subject."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.demo_model.judge import judge

resource = pytest.importorskip("resource")

SCRIPT = """
import json, resource, sys
import numpy as np, torch
from t2v_core.hosts.standalone import StandaloneHost
from t2v_core.models.catalogue import DEMO
from t2v_core.rendering.local import LocalRenderer
from t2v_core.request import GenerationRequest
from t2v_core.run import Run

torch.set_num_threads(1)
fields, path = json.loads(sys.argv[1]), sys.argv[2]
renderer = LocalRenderer(StandaloneHost(device_name="cpu"))
asked = GenerationRequest(**fields, model=DEMO, prompt="a red square moves left on a black background", seed=3)
with renderer.session():
    frames = renderer.render(renderer.resolve(asked), Run()).frames
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
np.save(path, frames[:])
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Clips by their number of frames and whether they are loops, each with the peak memory of its process in kB."""
    folder, known = tmp_path_factory.mktemp("clips"), {}

    def call(frames, *, loop=False):
        if (frames, loop) not in known:
            fields, path = json.dumps({"frames": frames, "loop": loop, "steps": 10}), folder / f"{frames}{loop}.npy"
            command = [sys.executable, "-c", SCRIPT, fields, str(path)]
            peak = int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            known[frames, loop] = np.load(path), peak
        return known[frames, loop]

    return call


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_512_frames_take_hardly_more_memory_than_32(made):
    assert made(512)[1] <= 1.1 * made(32)[1]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("loop", [False, True])
def test_512_frames_have_no_seam_and_one_subject(made, loop):
    frames, _ = made(512, loop=loop)
    assert len(frames) == 512
    changes = np.abs(np.diff(np.concatenate([frames, frames[:1]]).astype(float), axis=0)).mean(axis=(1, 2, 3))
    inner, around = changes[:-1], changes[-1]
    # Windows of 8 frames that overlap by 3 begin every 5 frames, in each step at another place.
    for place in range(5):
        assert abs(inner[place::5].mean() - inner.mean()) < inner.std()
    assert (around <= inner.max()) == loop
    verdicts = [judge(frames[start : start + 8]) for start in range(0, 512, 8)]
    assert {(verdict.colour, verdict.ground) for verdict in verdicts} == {("red", "black")}
