"""What we use of the WebUI is there, and can be called so: in the stand-in, and in the WebUIs' own sources.

`TXT2VIDEO_HOSTS=/a/stable-diffusion-webui:/a/stable-diffusion-webui-forge` names checkouts to look at.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from names import OBJECTS, Use, WebUI, calls_in_script, uses_of_modules

ROOT = Path(__file__).parents[2]
STAND_IN = Path(__file__).parent / "stand_in"
WEBUIS = [STAND_IN, *map(Path, filter(None, os.environ.get("TXT2VIDEO_HOSTS", "").split(os.pathsep)))]
USES = sorted(
    {use for path in (ROOT / "t2v_core" / "hosts" / "webui").glob("*.py") for use in uses_of_modules(path)},
    key=lambda use: (use.name, str(use.call)),
)
SCRIPT = (ROOT / "javascript" / "txt2video.js").read_text(encoding="utf-8")

CALLED_BY_THE_WEBUI = ("switch_to_txt2video", "recalculate_prompts_txt2video", "update_txt2video_tokens")
"""Functions of ours that the WebUI's own components call, by the name of the tab."""


@pytest.fixture(params=WEBUIS, ids=lambda path: path.name)
def webui(request: pytest.FixtureRequest) -> WebUI:
    assert request.param.is_dir(), f"{request.param} is no checkout of a WebUI"
    return WebUI(request.param)


def test_something_is_used_at_all():
    names = {use.name for use in USES}
    assert {"shared.state.interrupted", "ui_toprow.Toprow().submit", "call_queue.wrap_gradio_gpu_call"} <= names
    assert len(names) > 60


def test_every_name_is_there(webui: WebUI):
    assert [use.name for use in USES if not webui.has(use.name)] == []


def test_every_call_fits(webui: WebUI):
    assert [use for use in USES if use.call is not None and not webui.accepts(use)] == []


def test_what_is_not_there_is_noticed(webui: WebUI):
    for owner in ("shared.opts.", "shared.state.", "shared.cmd_opts.", "call_queue.", ""):
        name = f"{owner}no_such"
        assert not webui.has(name)
    assert not webui.accepts(Use("call_queue.wrap_gradio_gpu_call", (1, frozenset({"no_such"}))))
    assert not webui.accepts(Use("ui_toprow.Toprow", (9, frozenset())))


@pytest.mark.parametrize("name", OBJECTS)
def test_the_classes_of_objects_are_there(webui: WebUI, name: str):
    module, owner = OBJECTS[name]
    assert webui.has(f"{module}.{owner}")


def test_every_function_of_the_page_is_there(webui: WebUI):
    calls = calls_in_script(SCRIPT)
    assert {"requestProgress", "onUiLoaded", "localGet", "setupTokenCounting"} <= calls.keys()
    missing = {name for name in calls if webui.parameters_of(name) is None}
    assert missing == set()
    too_many = {name: count for name, count in calls.items() if count > (webui.parameters_of(name) or 0)}
    assert too_many == {}


@pytest.mark.parametrize("name", CALLED_BY_THE_WEBUI)
def test_what_the_webui_calls_is_defined_by_us(name: str):
    assert re.search(rf"^function {name}\(", SCRIPT, re.MULTILINE)
