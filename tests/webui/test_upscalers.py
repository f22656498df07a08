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
    loads = True

    def do_upscale(self, picture, path):
        if path is None:  # one that takes any factor
            return picture.resize((int(picture.width * self.scale), int(picture.height * self.scale)))
        assert path == "ESRGAN_4x.pth"
        return picture.resize((4 * picture.width, 4 * picture.height)).convert("RGBA") if self.loads else picture

class Data:
    def __init__(self, name, path):
        self.name, self.data_path, self.scaler = name, path, Scaler()

shared.sd_upscalers = [Data(name, None) for name in ("None", "Lanczos", "Nearest")]
shared.sd_upscalers.append(Data("ESRGAN_4x", "ESRGAN_4x.pth"))

from t2v_core.hosts.webui.host import WebUIHost
from t2v_core.postprocess.upscale import careful, find_upscaler, notes_of, upscale
from t2v_core.run import Notice, Run

found = WebUIHost().upscalers()
assert list(found) == ["Nearest", "ESRGAN_4x"], found
frames = np.random.default_rng(0).integers(0, 255, (3, 45, 80, 3), dtype=np.uint8)
assert found["ESRGAN_4x"](frames[0], 180, 102).shape == (180, 320, 3)
assert found["ESRGAN_4x"](frames[0], 500, 300).shape == (720, 1280, 3)
assert found["ESRGAN_4x"](frames[0], 40, 30).shape == (45, 80, 3)
assert found["Nearest"](frames[0], 160, 90).shape == (90, 160, 3)
made = np.concatenate(list(upscale(frames, width=180, height=102, upscaler=find_upscaler("esrgan_4X", found))))
assert made.shape == (3, 102, 180, 3) and made.dtype == np.uint8

Scaler.loads = False
said = []
watched = careful(found, Run(lambda event: said.append(event.message) if isinstance(event, Notice) else None),
                  outlasts_stop=True)
made = np.concatenate(list(upscale(frames, width=180, height=102, upscaler=find_upscaler("esrgan_4X", watched))))
assert made.shape == (3, 102, 180, 3)
assert len(said) == 1 and "ESRGAN_4x failed (it couldn't be loaded" in said[0], said
assert notes_of(watched, "by") == {"by": "lanczos"}
shared.sd_upscalers = []
assert not WebUIHost().upscalers()
"""


def test_upscalers_are_found_by_name_and_give_the_size_that_is_asked(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(STAND_IN), str(ROOT)])}
    environment["STAND_IN_DATA"] = str(tmp_path)
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, "--port", "1"]  # the stand-in's own command line
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
