"""The formats at the page's start as an option of the WebUI, in a process of its own beside the stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
from modules import shared
from t2v_core.hosts.webui import settings
data, found = vars(shared.opts)["data"], []
for saved in (None, ["gif", "mp4"], [], "gif"):
    data.pop("txt2video_format", None)
    if saved is not None:
        data["txt2video_format"] = saved
    settings.register()
    component = shared.opts.data_labels["txt2video_format"].component.__name__
    found.append([settings.value("format"), data["txt2video_format"], component])
print(json.dumps(found))
"""


def test_the_formats_at_start_are_boxes_to_tick(tmp_path: Path):
    """New, with two ticked, with none, and where one was saved before there could be several."""
    path = [str(ROOT / "tests" / "webui" / "stand_in"), str(ROOT)]
    script = f"import sys; sys.path[:0] = {path!r}; sys.argv = ['webui', '--port', '1']\n{SCRIPT}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "STAND_IN_DATA": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [
        ["mp4", ["mp4"], "CheckboxGroup"],
        ["gif, mp4", ["gif", "mp4"], "CheckboxGroup"],
        ["mp4", [], "CheckboxGroup"],
        ["gif", ["gif"], "CheckboxGroup"],
    ]
