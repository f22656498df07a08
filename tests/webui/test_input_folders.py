"""Where the WebUI's page may take pictures and videos from, over a stand-in of its modules, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

STAND_IN = Path(__file__).parent / "stand_in"
ROOT = Path(__file__).parents[2]

SCRIPT = """
import os
from pathlib import Path
from modules import paths, shared

from t2v_core.errors import RequestError
from t2v_core.hosts.webui.host import WebUIHost
from t2v_core.rendering.inputs import check_inputs
from t2v_core.request import GenerationRequest

shared.opts.data["outdir_save"] = "log/images"
host, data = WebUIHost(), Path(paths.data_path)

def may(path):
    try:
        check_inputs(GenerationRequest(source=str(path)), host.input_folders)
    except RequestError:
        return False
    return True

assert may(host.output_folder / "2026-01-01" / "a.mp4")
assert may(data / "log" / "images" / "a.png")
assert may(Path(os.environ["GRADIO_TEMP_DIR"]) / "0123" / "upload.mov")
assert not may(data / "config.json")
assert not may(data / "log" / "images" / ".." / ".." / "config.json")
assert not may("/etc/passwd")
"""


def test_uploads_and_the_webuis_own_pictures_and_nothing_else(tmp_path: Path):
    uploads = tmp_path / "uploads"
    environment = {
        **os.environ,
        "STAND_IN_DATA": str(tmp_path / "data"),
        "GRADIO_TEMP_DIR": str(uploads),
        "PYTHONPATH": os.pathsep.join([str(STAND_IN), str(ROOT)]),
    }
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, "--port", "1"]  # the stand-in's own command line
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
