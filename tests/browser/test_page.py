"""`python -m t2v_core serve` in Chromium: log in, run an example, reload, stop, read a recipe, use a phone."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chromium
import pytest
from selenium.webdriver.common.action_chains import ActionChains

from t2v_core.media.reading import read_frames

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
VIDEO = "document.querySelector('#txt2video_gallery video')"
BAR = "(document.querySelector('.txt2video-bar span')?.innerText || '')"
SOURCE = "document.querySelector('.txt2video-slot[data-slot=source]')"
NAVIGATED = ("AbortError", "Connection errored out")
"""What gradio itself says when a page is left while it waits for an answer."""


class Served:
    """The page in the browser, logged in."""

    def __init__(self, chrome: Any, url: str, clips: Path) -> None:
        self.chrome, self.url, self.clips = chrome, url, clips

    def open(self, query: str = "") -> None:
        self.chrome.get(self.url + query)
        self.wait("typeof pageIsLoaded !== 'undefined' && pageIsLoaded")
        time.sleep(2)  # until gradio has attached its events, of which it tells nobody

    def value(self, expression: str, *values: Any) -> Any:
        return self.chrome.execute_script(f"return {expression}", *values)

    def wait(self, expression: str) -> Any:
        return until(lambda: self.value(expression), expression)

    def press(self, name: str) -> None:
        self.value("document.querySelector(arguments[0]).click()", f"#txt2video_{name}")

    def set(self, selector: str, value: object) -> None:
        self.chrome.execute_script(
            "const box = document.querySelector(arguments[0]);"
            "const kind = box.tagName === 'TEXTAREA' ? HTMLTextAreaElement : HTMLInputElement;"
            "Object.getOwnPropertyDescriptor(kind.prototype, 'value').set.call(box, arguments[1]);"
            "for (const name of ['input', 'change']) box.dispatchEvent(new Event(name, {bubbles: true}));",
            f"#txt2video_{selector}",
            str(value),
        )

    def errors(self) -> list[str]:
        logged = [entry["message"] for entry in self.chrome.get_log("browser") if entry["level"] == "SEVERE"]
        return [message for message in logged if not any(known in message for known in NAVIGATED)]


def until(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + chromium.PATIENCE
    while not (result := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.1)
    return result


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("served")
    logins = folder / "logins"
    logins.write_text("ann:pass-of-ann\n", encoding="utf-8")
    logins.chmod(0o600)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "t2v_core", "serve", "--port", str(port), "--device", "cpu"]
    command += ["--auth-file", str(logins), "--output", str(folder / "clips")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
    try:
        until(lambda: process.poll() is not None or "is at http" in log.read_text(encoding="utf-8"), "it starts")
        yield f"http://127.0.0.1:{port}/", folder / "clips"
        process.terminate()
        assert process.wait(60) == 0
        assert "Traceback" not in log.read_text(encoding="utf-8")
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def page(chrome: Any, server: tuple[str, Path]) -> Iterator[Served]:
    chrome.set_window_size(*chromium.DESKTOP)
    chrome.get(server[0])
    served = Served(chrome, *server)
    if "/login" in chrome.current_url:
        for name, text in (("username", "ann"), ("password", "pass-of-ann")):
            chrome.find_element("name", name).send_keys(text)
        chrome.find_element("tag name", "button").click()
        until(lambda: "/login" not in chrome.current_url, "the login is left")
    chrome.execute_script("localStorage.clear()")
    served.open()
    served.errors()
    yield served
    assert not served.errors()


def test_one_click_makes_a_newcomers_first_video(page):
    assert page.value("document.documentElement.classList.contains('txt2video-simple')")
    assert not page.value("document.querySelector('#txt2video_sampler').offsetParent")
    page.press("examples button")
    page.wait(f"{VIDEO} && {VIDEO}.readyState > 2 && !{VIDEO}.error")
    first = page.value(f"{VIDEO}.currentTime")
    page.wait(f"{VIDEO}.currentTime !== {first}")
    page.open()
    page.wait(VIDEO)
    assert page.value("document.querySelector('#txt2video_prompt textarea').value"), "the prompt is there again"


def test_a_run_is_found_again_after_a_reload_and_can_be_stopped(page):
    before = set(page.clips.glob("*"))
    page.press("view")
    page.wait("document.querySelector('#txt2video_sampler').offsetParent")
    page.set("steps input[type=number]", 900)
    page.set("frames input[type=number]", 32)
    page.set("prompt textarea", "a green box moving up on a white background")
    page.press("generate")
    page.wait(f"{BAR}.match(/Sampling [1-9][0-9]/)")
    page.wait("document.querySelector('.txt2video-live img')?.src.startsWith('data:image/')")
    page.open()
    page.wait(f"{BAR}.includes('Sampling')")
    started = time.monotonic()
    page.press("interrupt")
    caption = page.wait("document.querySelector('#txt2video_gallery figcaption')?.textContent")
    assert time.monotonic() - started < 10
    assert re.search(r"-partial\.mp4 · stopped early", caption)
    (made,) = set(page.clips.glob("*.mp4")) - before
    assert len(read_frames(made))
    page.wait("document.querySelector('#txt2video_generate').offsetParent")


def test_what_is_wrong_is_marked_and_a_recipe_fills_the_fields(page):
    page.press("view")
    page.set("steps input[type=number]", 5000)
    page.press("generate")
    page.wait("document.querySelector('#txt2video_html_log .txt2video-problem')?.innerText.includes('Steps')")
    page.wait("document.querySelector('#txt2video_steps').dataset.txt2videoWrong")
    page.set("prompt textarea", "a red ball\nSteps: 7, Sampler: DDIM, CFG scale: 2, Seed: 42, Size: 64x64, Frames: 5")
    time.sleep(0.5)
    page.value("document.querySelector('#paste').click()")
    page.wait("document.querySelector('#txt2video_steps input[type=number]').value === '7'")
    assert page.value("document.querySelector('#txt2video_sampler input').value") == "DDIM"
    assert page.value("document.querySelector('#txt2video_prompt textarea').value") == "a red ball"
    assert page.value("document.querySelector('#txt2video_dice').title"), "a symbol says what it does"


def test_a_visitors_own_clip_is_drawn_on_and_continued(page):
    page.press("view")
    page.wait("document.querySelector('#txt2video_sampler').offsetParent")
    page.set("steps input[type=number]", 2)
    page.set("prompt textarea", "a green box moving up on a white background")
    time.sleep(0.5)
    page.press("generate")
    first = page.wait(f"{VIDEO} && {VIDEO}.readyState > 2 && {VIDEO}.src")
    page.press("use_as_source")
    page.wait(f"{SOURCE} && {SOURCE}.dataset.state === 'filled' && {SOURCE}.offsetParent")
    page.value("document.querySelector('[data-slot=mask] [data-do=draw]').click()")
    page.wait("document.querySelector('.txt2video-sketch[open]')")
    canvas = page.chrome.find_element("css selector", ".txt2video-sketch canvas")
    ActionChains(page.chrome, duration=20).move_to_element(canvas).click().perform()
    page.value("document.querySelector('.txt2video-sketch [data-do=use]').click()")
    page.wait("document.querySelector('[data-slot=mask]').dataset.state === 'filled'")
    page.set("source :is(input, textarea)", "/etc/hostname")
    page.wait(f"{SOURCE}.dataset.state === 'wrong' && {SOURCE}.innerText.includes('outside')")
    page.press("continue")
    page.wait(f"{VIDEO} && {VIDEO}.readyState > 2 && {VIDEO}.src !== '{first}'")
    page.wait("document.querySelector('.txt2video-frame').textContent.endsWith('/ 12')")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(page, theme):
    width, height = chromium.PHONE
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
    page.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.open(f"?__theme={theme}")
        page.press("examples button")
        page.wait(VIDEO)
        for _ in range(2):
            assert page.value("document.documentElement.scrollWidth") <= width
            page.press("view")
            time.sleep(1)
    finally:
        page.chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nothing_is_fetched_from_elsewhere(page):
    names = page.value("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert names
    assert [name for name in names if not name.startswith(page.url)] == []
