"""Runs that are stopped, lost sight of, or have to wait."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from chromium import Page, until
from servers import Server

from t2v_core.media.reading import read_frames

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

PROMPT = "a green square moving right on a black background"
LONG = {"steps": 100, "frames": 64}
"""Longer than any machine takes to press a button, or to open a second page."""

SAMPLING = "document.querySelector('#tab_txt2video .progressDiv')?.textContent.includes('Sampling')"


@pytest.fixture
def at_once(server: Server) -> Iterator[None]:
    """Interrupt stops at once, also in a run of several clips."""
    server.set_options(interrupt_after_current=False)
    yield
    server.set_options(interrupt_after_current=True)


def begin(page: Page, server: Server, **fields: object) -> None:
    """Start a run and wait until a step is done, before which a stop would leave nothing to keep."""
    page.ask(prompt=PROMPT, **fields)
    page.press("generate")
    page.wait(SAMPLING)
    wait_for_a_step(server)


def wait_for_a_step(server: Server, *, clip: int = 0) -> None:
    """Wait until a step of a clip is done."""

    def is_done() -> bool:
        state = server.look()["state"]
        return state["job_no"] == clip and re.match(r"Sampling [1-9]", state["textinfo"] or "") is not None

    until(is_done, what=f"the first step of clip {clip + 1} is done")


def test_interrupt_keeps_what_is_there_and_the_next_run_works(page: Page, server: Server, at_once: None):
    begin(page, server, **LONG, count=3)
    page.press("interrupt")
    page.wait("t.clips().length === 1")
    page.wait_until_idle()
    assert "stopped early" in page.value("t.captions()[0]")
    (name,) = page.captions()
    assert len(read_frames(server.file(name))) > 1
    page.wait("t.clips()[0].readyState >= 2")
    (after,) = page.generate(steps=2, frames=8, count=1)
    assert after != name
    assert "stopped early" not in page.value("t.captions()[0]")


def test_interrupt_may_let_the_clip_be_finished(page: Page, server: Server):
    begin(page, server, steps=40, frames=16, count=3)
    page.press("interrupt")
    page.wait("t.clips().length === 1")
    page.wait_until_idle()
    assert "stopped early" not in page.value("t.captions()[0]")


def test_skip_goes_on_with_the_next_clip(page: Page, server: Server):
    begin(page, server, **LONG, count=2)
    made = len(list(server.outputs.rglob("*.mp4")))
    page.press("skip")
    until(lambda: len(list(server.outputs.rglob("*.mp4"))) == made + 1, what="the first clip is saved")
    wait_for_a_step(server, clip=1)
    page.press("skip")
    page.wait("t.clips().length === 2")
    page.wait_until_idle()
    assert all("stopped early" in caption for caption in page.value("t.captions()"))
    assert page.generate(steps=2, frames=8, count=1)


def test_a_reloaded_page_shows_the_run_and_then_its_clip(page: Page, server: Server):
    begin(page, server, **LONG, count=1)
    page.open(forget=False)
    page.wait(SAMPLING)
    assert page.value("getComputedStyle(document.querySelector('#tab_txt2video .progressDiv')).display") == "block"
    page.wait("t.find('interrupt').style.display === 'block'")
    page.press("interrupt")
    page.wait("t.clips().length === 1")
    page.wait_until_idle()
    assert page.wait("t.clips()[0].readyState >= 2 && t.clips()[0].videoWidth") == 64
    page.open(forget=False)
    page.wait_until_idle()


def test_a_page_that_is_left_in_the_midst_of_a_question_forgets_no_run(page: Page, server: Server):
    begin(page, server, **LONG, count=1)
    leaving = "() => { setTimeout(() => location.reload()); return Promise.reject(new Error('broken off')); }"
    page.js(f"window.fetch = {leaving}")
    page.wait("!window.t")
    page.open(forget=False)
    page.wait(SAMPLING)
    page.press("interrupt")
    page.wait("t.clips().length === 1")
    page.wait_until_idle()


def test_two_pages_wait_for_each_other(page: Page, server: Server):
    first = page.chrome.current_window_handle
    begin(page, server, **LONG, count=1, seed=11)
    page.js("localStorage.clear()")  # another browser wouldn't know of this run
    page.chrome.switch_to.new_window("tab")
    try:
        second = Page(page.chrome, page.url)
        second.open()
        second.ask(prompt=PROMPT, steps=2, frames=8, count=1, seed=22)
        second.press("generate")
        second.wait("document.querySelector('#tab_txt2video .progressDiv')?.textContent.includes('queue')")
        waiting = page.chrome.current_window_handle
        page.chrome.switch_to.window(first)
        page.press("interrupt")
        page.wait("t.clips().length === 1")
        page.chrome.switch_to.window(waiting)
        second.wait("t.clips().length === 1")
        second.wait_until_idle()
        assert "Seed: 22" in second.text("html_info")
        assert not second.errors()
    finally:
        page.chrome.close()
        page.chrome.switch_to.window(first)
    page.wait("t.clips().length === 1")
    assert "Seed: 11" in page.text("html_info")
