"""What is made of a finished clip: continued, refined, picked from drafts; and several files of one clip."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Page
from servers import Server
from test_clips import BYTES

from t2v_core.infotext import parse_infotext
from t2v_core.media.reading import probe, read_frames, read_metadata

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

PROMPT = "a white circle moving down on a blue background"
FIELDS_KEPT = ("source", "continue_from", "strength", "refine", "width", "frames", "join", "drafts", "pick")


def values_of(path: Path) -> dict[str, Any]:
    return parse_infotext(read_metadata(path) or "").values


def press_and_wait(page: Page, code: str) -> list[str]:
    """Press something that starts a run, and give the names of what came of it."""
    before = page.value("t.sources()")
    page.js(code)
    page.wait("t.clips().length && t.sources() !== arguments[0]", before)
    page.wait("document.querySelector('#txt2video_gallery .txt2video-player[data-ready]')")
    page.wait_until_idle()
    return page.captions()


def shown(page: Page) -> dict[str, Any]:
    return {name: page.read(name) for name in FIELDS_KEPT}


def test_a_clip_is_continued_as_often_as_wanted(page: Page, server: Server):
    (first,) = page.generate(prompt=PROMPT, steps=3, seed=5, count=1)
    before = shown(page)
    (second,) = press_and_wait(page, "t.find('continue').click()")
    old, new = read_frames(server.file(first)), read_frames(server.file(second))
    assert len(new) == 12
    assert np.abs(new[:8].astype(int) - old).mean() < 3
    assert Path(values_of(server.file(second))["continue_from"]).name == first
    assert shown(page) == before, "nothing lingers in the fields"
    page.wait("document.querySelector('.txt2video-frame').textContent.endsWith('/ 12')")
    (third,) = press_and_wait(page, "t.find('continue').click()")
    assert probe(server.file(third)).frames == 16


def test_a_clip_is_refined_by_its_own_recipe(page: Page, server: Server):
    (first,) = page.generate(prompt=PROMPT, steps=3, seed=6, count=1, width=64, height=40)
    page.ask(prompt="something else", refine_strength=0.5)
    before = shown(page)
    (second,) = press_and_wait(page, "t.find('refine_clip').click()")
    values = values_of(server.file(second))
    assert (values["prompt"], values["refine"], values["refine_strength"]) == (PROMPT, 2, 0.5)
    found = probe(server.file(second))
    assert (found.width, found.height, found.frames) == (128, 80, 8)
    small = read_frames(server.file(second))[:, ::2, ::2].astype(int)
    assert np.abs(small - read_frames(server.file(first))).mean() < 40, "it is the same clip"
    assert shown(page) == before


def test_drafts_are_picked_and_rendered(page: Page, server: Server):
    page.ask(prompt=PROMPT, steps=6, seed=21, drafts=4, draft_steps=2, count=1)
    (sheet,) = press_and_wait(page, "t.find('make_drafts').click()")
    assert sheet.endswith("-drafts.mp4")
    page.wait("document.querySelectorAll('.txt2video-pick').length === 4")
    assert page.value("document.querySelector('.txt2video-render-picked').disabled")
    page.ask(prompt="something else", steps=9)
    for number in (2, 4):
        place = page.value(
            "(() => { const box = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2)?.dataset.number; })()",
            f".txt2video-pick[data-number='{number}']",
        )
        assert place in (str(number), None), "nothing lies over it"
        page.js("document.querySelector(arguments[0]).click()", f".txt2video-pick[data-number='{number}']")
    names = press_and_wait(page, "document.querySelector('.txt2video-render-picked').click()")
    recipes = [values_of(server.file(name)) for name in names]
    assert [(each["seed"], each["steps"], each["prompt"]) for each in recipes] == [(22, 6, PROMPT), (24, 6, PROMPT)]


def test_the_places_to_pick_lie_on_the_drafts(page: Page, server: Server):
    page.ask(prompt=PROMPT, steps=2, seed=1, drafts=5, draft_steps=1, count=1, width=64, height=40)
    (sheet,) = press_and_wait(page, "t.find('make_drafts').click()")
    frame = read_frames(server.file(sheet))[0].astype(int)
    boxes = page.value(
        "[...document.querySelectorAll('.txt2video-pick')].map((pick) =>"
        " ['left', 'top', 'width', 'height'].map((side) => parseFloat(pick.style[side]) / 100))"
    )
    height, width = frame.shape[:2]
    assert len(boxes) == 5
    for left, top, across, down in boxes:
        x, y, w, h = round(left * width), round(top * height), round(across * width), round(down * height)
        assert frame[y + 2 : y + h - 2, x + 2 : x + w - 2].std() > 5, "there is a picture"
        assert w / h == pytest.approx(64 / 40, rel=0.03)


def test_a_grid_comes_first_and_its_clips_after_it(page: Page):
    page.ask(prompt=PROMPT, seed=1, count=1, over="steps=1,2")
    names = press_and_wait(page, "t.find('generate').click()")
    assert len(names) == 3
    assert names[0].endswith("-grid.mp4")


def test_several_files_of_a_clip_are_one_entry(page: Page, server: Server):
    page.choose("format", "gif")
    names = page.generate(prompt=PROMPT, steps=2, seed=2, count=1)
    assert len(names) == 1
    assert "gif" in page.value("document.querySelector('#txt2video_gallery figcaption').textContent")
    page.press("zip")
    link = page.wait("t.find('download').querySelector('a[href]') && t.find('download').querySelector('a[href]').href")
    content = base64.b64decode(page.chrome.execute_async_script(BYTES, link))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert sorted(Path(name).suffix for name in archive.namelist()) == [".gif", ".mp4"]
    files = [server.file(name) for name in (names[0], Path(names[0]).with_suffix(".gif").name)]
    page.press("delete")
    page.wait("t.clips().length === 0")
    assert not any(file.exists() for file in files)
