"""From a prompt to a clip that plays."""

from __future__ import annotations

import pytest
from chromium import PHONE, Page, until
from servers import Server

from t2v_core.infotext import parse_infotext
from t2v_core.media.reading import read_frames, read_metadata

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

PROMPT = "a red ball moving left on a black background"


def test_the_tab_opens_without_a_complaint(page: Page, server: Server):
    page.open()
    assert page.errors() == []
    assert server.complaints() == []
    assert page.text("generate") == "Generate"


def test_a_prompt_becomes_a_clip_that_plays(page: Page, server: Server):
    (name,) = page.generate(prompt=PROMPT, steps=12, seed=5)
    assert page.wait("t.clips()[0].readyState >= 2 && t.clips()[0].videoWidth") == 64
    moment = page.value("t.clips()[0].currentTime")
    page.wait("t.clips()[0].currentTime !== arguments[0] && !t.clips()[0].paused", moment)
    path = server.file(name)
    recipe = parse_infotext(read_metadata(path) or "")
    assert read_frames(path).shape == (recipe.values["frames"], 64, 64, 3)
    assert recipe.values["prompt"] == PROMPT
    assert (recipe.values["steps"], recipe.values["seed"]) == (12, 5)
    assert "Steps: 12" in page.text("html_info")
    assert server.look()["saved"][-1] == str(path)


def test_progress_and_preview_are_shown_and_gone_at_the_end(page: Page):
    page.generate(prompt=PROMPT, steps=60, seed=5)
    said = page.value("seen.bar")
    assert any("Sampling" in text for text in said)
    assert page.value("seen.previews") > 0
    assert (
        page.value("document.querySelectorAll('#tab_txt2video .progressDiv, #tab_txt2video .livePreview').length") == 0
    )


def test_the_image_checkpoint_leaves_the_device_and_comes_back(page: Page, server: Server):
    before = len(server.look()["moves"])
    page.generate(prompt=PROMPT, steps=2)
    assert server.look()["moves"][before:] == ["off", "on"]


def test_bad_input_is_marked_and_explained_and_nothing_runs(page: Page, server: Server):
    files, moves = sorted(server.data.rglob("*.mp4")), server.look()["moves"]
    page.ask(prompt=PROMPT, width=13, seed=-5)
    page.press("generate")
    page.wait("t.find('html_log').querySelectorAll('.txt2video-problem li').length === 2")
    text = page.text("html_log")
    assert "Width" in text
    assert "Seed" in text
    assert "8" in text
    assert "-1" in text
    page.wait("document.querySelectorAll('[data-txt2video-wrong]').length === 2")
    marked = page.value("[...document.querySelectorAll('[data-txt2video-wrong]')].map((element) => element.id)")
    assert sorted(marked) == ["txt2video_seed", "txt2video_width"]
    assert (sorted(server.data.rglob("*.mp4")), server.look()["moves"]) == (files, moves)
    page.wait_until_idle()
    page.generate(width=64, seed=1, steps=2)
    assert page.value("document.querySelectorAll('[data-txt2video-wrong]').length") == 0


def test_styles_are_used_and_can_be_written_into_the_prompt(page: Page, server: Server):
    page.ask(prompt="a blue cube")
    page.choose("styles", "bright")
    page.press("style_apply")
    until(lambda: page.read("prompt") == "a blue cube, bright", what="the style is in the prompt")
    assert page.read("negative_prompt") == "dark"


def test_the_tokens_of_the_prompt_are_counted(page: Page):
    page.ask(prompt="")
    page.ask(prompt=PROMPT)
    page.wait("t.find('token_counter').textContent.trim() === '9/75'")


@pytest.mark.parametrize("query", ["", "?__theme=dark"], ids=["light", "dark"])
def test_nothing_is_wider_than_a_telephone(page: Page, query: str):
    metrics = {"width": PHONE[0], "height": PHONE[1], "deviceScaleFactor": 1, "mobile": True}
    page.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.open(query=query)
        page.generate(prompt=PROMPT, steps=2, count=2)
        assert page.value("document.body.classList.contains('dark')") == bool(query)
        assert page.value("document.documentElement.scrollWidth") <= PHONE[0]
        wide = page.value(
            "[...t.find('results').querySelectorAll('*')].filter((each) => each.offsetParent"
            f" && each.getBoundingClientRect().right > {PHONE[0]} + 1).map((each) => each.outerHTML.slice(0, 80))"
        )
        assert wide == []
    finally:
        page.chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
