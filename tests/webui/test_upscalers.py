"""The WebUI's upscalers as ours, over a stand-in of its modules, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

STAND_IN = Path(__file__).parent / "stand_in"
ROOT = Path(__file__).parents[2]

SCRIPT = """
import numpy as np
from modules import shared

class Scaler:
    def upscale(self, picture, scale, path):
        assert path == "ESRGAN_4x.pth"
        # As the WebUI does: whole multiples of 8, downwards.
        size = int(picture.width * scale) // 8 * 8, int(picture.height * scale) // 8 * 8
        return picture.resize(size).convert("RGBA")

class Data:
    def __init__(self, name, path):
        self.name, self.data_path, self.scaler = name, path, Scaler()

shared.sd_upscalers = [Data("None", None), Data("Lanczos", None), Data("ESRGAN_4x", "ESRGAN_4x.pth")]

from t2v_core.hosts.webui.host import WebUIHost
from t2v_core.postprocess.upscale import find_upscaler, upscale

found = WebUIHost().upscalers()
assert list(found) == ["ESRGAN_4x"], found
frames = np.random.default_rng(0).integers(0, 255, (3, 45, 80, 3), dtype=np.uint8)
assert found["ESRGAN_4x"](frames[0], 180, 102).shape == (96, 176, 3)
made = np.concatenate(list(upscale(frames, width=180, height=102, upscaler=find_upscaler("esrgan_4X", found))))
assert made.shape == (3, 102, 180, 3) and made.dtype == np.uint8
shared.sd_upscalers = []
assert not WebUIHost().upscalers()
"""


def test_upscalers_are_found_by_name_and_give_the_size_that_is_asked(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(STAND_IN), str(ROOT)])}
    environment["STAND_IN_DATA"] = str(tmp_path)
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, "--port", "1"]  # the stand-in's own command line
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
