"""Pictures and videos that a clip starts from: dropped, drawn on, taken from the player."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from chromium import Page, until
from PIL import Image, ImageDraw
from selenium.webdriver.common.action_chains import ActionChains
from servers import Server

from t2v_core.infotext import parse_infotext
from t2v_core.media.reading import read_frames, read_metadata

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

PROMPT = "a yellow ball moving right on a blue background"
CANVAS = "document.querySelector('.txt2video-sketch canvas')"


def slot(name: str) -> str:
    return f"document.querySelector('.txt2video-slot[data-slot={name}]')"


def state(page: Page, name: str) -> str:
    return page.value(f"{slot(name)}.dataset.state")


def press_in(page: Page, name: str, what: str) -> None:
    page.js(f"{slot(name)}.querySelector('[data-do={what}]').click()")


def give(page: Page, name: str, path: Path, *, becomes: str = "filled") -> None:
    page.drop(path, f".txt2video-slot[data-slot={name}]")
    page.wait(f"{slot(name)}.dataset.state === arguments[0]", becomes)


def values_of(path: Path) -> dict[str, object]:
    return parse_infotext(read_metadata(path) or "").values


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, Path]:
    """A ball on the left, and on the right."""
    paths = []
    for name, left in (("start", 10), ("end", 46)):
        picture = Image.new("RGB", (96, 64), (40, 90, 200))
        ImageDraw.Draw(picture).ellipse((left, 12, left + 40, 52), fill=(230, 210, 40))
        paths.append(tmp_path / f"{name}.png")
        picture.save(paths[-1])
    return paths[0], paths[1]


def test_pictures_that_are_dropped_are_the_first_and_the_last_frame(page: Page, server: Server, pictures):
    give(page, "first_frame", pictures[0])
    give(page, "last_frame", pictures[1])
    until(lambda: (page.read("width"), page.read("height")) == (64, 40), what="the size is the picture's shape")
    assert "start.png · 96×64" in page.value(f"{slot('first_frame')}.innerText")
    (name,) = page.generate(prompt=PROMPT, steps=4, seed=3, count=1)
    frames, values = read_frames(server.file(name)), values_of(server.file(name))
    assert Path(str(values["first_frame"])).name == "start.png"
    assert Path(str(values["last_frame"])).name == "end.png"
    for frame, picture in ((frames[0], pictures[0]), (frames[-1], pictures[1])):
        given = np.asarray(Image.open(picture).convert("RGB").resize((64, 43)).crop((0, 1, 64, 41)), int)
        assert np.abs(frame - given).mean() < 25


def test_the_same_file_can_be_given_twice(page: Page, pictures):
    give(page, "source", pictures[0])
    press_in(page, "source", "clear")
    page.wait(f"{slot('source')}.dataset.state === 'empty'")
    assert page.read("source") == ""
    give(page, "source", pictures[0])


def test_what_is_no_video_says_so_and_goes_again(page: Page, tmp_path: Path):
    wrong = tmp_path / "wrong.mp4"
    wrong.write_text("I am a text")
    give(page, "source", wrong, becomes="wrong")
    said = page.value(f"{slot('source')}.innerText")
    assert "wrong.mp4 isn't a video" in said
    assert "/" not in said
    assert page.read("source") == ""
    press_in(page, "source", "clear")
    page.wait(f"{slot('source')}.dataset.state === 'empty'")
    until(lambda: page.read("source") == "", what="nothing is left of it")


def test_a_path_elsewhere_is_refused_in_its_place_and_by_the_run(page: Page):
    page.set("source", "/etc/hostname")
    page.wait(f"{slot('source')}.dataset.state === 'wrong'")
    assert "outside the folders" in page.value(f"{slot('source')}.innerText")
    page.ask(prompt=PROMPT)
    page.press("generate")
    page.wait("t.find('html_log').innerText.includes('outside the folders')")
    page.wait("t.find('source').dataset.txt2videoWrong")


def test_a_mask_is_drawn_on_the_source(page: Page, server: Server, pictures):
    give(page, "source", pictures[0])
    until(lambda: page.read("height") == 40, what="the size is the source's")
    press_in(page, "mask", "draw")
    page.wait("document.querySelector('.txt2video-sketch[open]')")
    canvas = page.chrome.find_element("css selector", ".txt2video-sketch canvas")
    width, height = canvas.size["width"], canvas.size["height"]
    stroke = ActionChains(page.chrome, duration=20).move_to_element_with_offset(canvas, -width // 4, -height // 4)
    stroke = stroke.click_and_hold().move_to_element_with_offset(canvas, -width // 4, height // 4).release()
    stroke.perform()
    page.js("document.querySelector('.txt2video-sketch [data-do=use]').click()")
    page.wait(f"{slot('mask')}.dataset.state === 'filled'")
    assert not page.value("document.querySelector('.txt2video-sketch')")
    mask = np.asarray(Image.open(page.read("mask")).convert("L"))
    assert mask.shape == (512, 768)
    assert set(np.unique(mask)) == {0, 255}
    assert mask[256, 192] == 255
    assert mask[:, 384:].max() == 0
    (name,) = page.generate(prompt="a red box moving left on a green background", steps=6, seed=1, count=1)
    frames = read_frames(server.file(name)).astype(int)
    assert Path(str(values_of(server.file(name))["mask"])).name == "mask.png"
    kept, changed = frames[:, :, 40:], frames[:, 10:30, 13:19]
    assert np.abs(kept - kept[:1]).max() <= 12, "beside the mask the picture stands still"
    assert np.abs(changed - frames[:, 10:30, 40:46]).mean() > 5

    press_in(page, "mask", "draw")
    page.wait(f"{CANVAS} && {CANVAS}.getContext('2d').getImageData(192, 256, 1, 1).data[3] === 255")
    page.js("document.querySelector('.txt2video-sketch [data-do=clear]').click()")
    assert page.value(f"{CANVAS}.getContext('2d').getImageData(192, 256, 1, 1).data[3]") == 0
    page.js("document.querySelector('.txt2video-sketch [data-do=undo]').click()")
    assert page.value(f"{CANVAS}.getContext('2d').getImageData(192, 256, 1, 1).data[3]") == 255
    page.js("document.querySelector('.txt2video-sketch [data-do=cancel]').click()")
    page.wait("!document.querySelector('.txt2video-sketch')")


def test_without_a_source_there_is_nothing_to_draw_on(page: Page):
    press_in(page, "mask", "draw")
    page.wait("t.find('html_log').innerText.includes('Give a source first')")


def test_a_clip_is_the_next_ones_source(page: Page, server: Server):
    (name,) = page.generate(prompt=PROMPT, steps=2, seed=1, count=1, frames=6, width=72, height=48)
    page.ask(width=64, height=64, frames=8)
    page.press("use_as_source")
    page.wait(f"{slot('source')}.dataset.state === 'filled' && {slot('source')}.offsetParent")
    assert page.read("source") == str(server.file(name))
    until(lambda: [page.read(each) for each in ("width", "height", "frames")] == [72, 48, 6], what="its size is taken")


def test_a_frame_of_the_player_is_the_next_clips_last_one(page: Page, server: Server):
    (name,) = page.generate(prompt=PROMPT, steps=2, seed=1, count=1)
    page.wait("t.clips()[0].readyState >= 2")
    page.js("document.querySelector('#tab_txt2video [data-do=play]').click(); t.clips()[0].currentTime = 5.5 / 8")
    page.wait("document.querySelector('.txt2video-frame').textContent.startsWith('6 /')")
    press_in(page, "last_frame", "take")
    page.wait(f"{slot('last_frame')}.dataset.state === 'filled'")
    taken = np.asarray(Image.open(page.read("last_frame")), int)
    assert np.abs(taken - read_frames(server.file(name))[5]).max() <= 1
