"""What the buttons under the player do."""

from __future__ import annotations

import base64
import io
import zipfile

import numpy as np
import pytest
from chromium import Page, until
from PIL import Image
from servers import Server

from t2v_core.media.reading import read_frames
from t2v_core.request import FIELDS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

PROMPT = "a white circle moving down on a blue background"
SHOWN = "document.querySelector('#tab_img2img img')"
PIXELS = f"""
const image = {SHOWN}, canvas = document.createElement('canvas');
canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
canvas.getContext('2d').drawImage(image, 0, 0);
return canvas.toDataURL('image/png').split(',')[1];
"""
BYTES = """
const done = arguments[1];
fetch(arguments[0]).then((reply) => reply.blob()).then((blob) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result.split(',')[1]);
  reader.readAsDataURL(blob);
});
"""


@pytest.mark.parametrize("which", ["First frame", "Last frame", "Current frame"])
def test_a_frame_goes_to_img2img(page: Page, server: Server, which: str):
    (name,) = page.generate(prompt=PROMPT, steps=10, seed=3)
    frames = read_frames(server.file(name))
    page.wait("t.clips()[0].readyState >= 2")
    page.js("document.querySelector('#tab_txt2video [data-do=play]').click(); t.clips()[0].currentTime = 3.5 / 8")
    page.wait("document.querySelector('.txt2video-frame').textContent.startsWith('4 /')")
    page.set("which", which)
    page.press("send_to_img2img")
    assert page.wait(f"{SHOWN} && {SHOWN}.naturalWidth", patience=20) == 64
    page.wait("document.querySelector('#tab_img2img').offsetParent")
    received = Image.open(io.BytesIO(base64.b64decode(page.js(PIXELS)))).convert("RGB")
    expected = frames[{"First frame": 0, "Last frame": -1, "Current frame": 3}[which]]
    assert np.abs(np.asarray(received, int) - expected).max() <= 2
    page.wait("document.querySelector('#img2img_width input[type=number]').value === '64'")


def test_delete_removes_the_file_and_keeps_the_others(page: Page, server: Server):
    names = page.generate(prompt=PROMPT, steps=2, count=2)
    assert len(names) == 2
    gone, kept = map(server.file, names)
    page.press("delete")
    page.wait("t.clips().length === 1")
    assert page.captions() == [names[1]]
    assert not gone.exists()
    assert kept.exists()


def test_the_zip_holds_all_clips(page: Page, server: Server):
    names = page.generate(prompt=PROMPT, steps=2, count=2)
    page.press("zip")
    link = page.wait("t.find('download').querySelector('a[href]') && t.find('download').querySelector('a[href]').href")
    content = base64.b64decode(page.chrome.execute_async_script(BYTES, link))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert sorted(archive.namelist()) == sorted(names)
        assert archive.read(names[0]) == server.file(names[0]).read_bytes()


def test_the_frames_are_shown(page: Page):
    page.generate(prompt=PROMPT, steps=2, frames=5, count=1)
    page.press("show_frames")
    page.wait("t.find('frames_gallery').querySelectorAll('.thumbnail-item img, .thumbnail-lg img').length === 5")


def test_the_frames_are_hidden_again_and_before_those_of_another_clip_come(page: Page):
    shown, hidden = (f"{there}(t.find('frames_gallery') || {{}}).offsetParent" for there in ("!!", "!"))
    page.generate(prompt=PROMPT, steps=2, frames=3, count=1)
    for wanted in (shown, hidden, shown):
        page.press("show_frames")
        page.wait(wanted)
    page.generate(prompt=PROMPT, steps=2, frames=4, count=1)
    page.wait(hidden)
    page.press("show_frames")
    page.wait("t.find('frames_gallery').querySelectorAll('.thumbnail-item img, .thumbnail-lg img').length === 4")
    page.press("delete")
    page.wait(hidden)


def test_the_time_that_a_clip_took_is_told_at_once(page: Page):
    page.generate(prompt=PROMPT, steps=2, frames=6, count=1)
    page.wait("/^About/.test(t.find('forecast').textContent.trim())")


def test_several_clips_play_in_step(page: Page):
    page.generate(prompt=PROMPT, steps=2, count=3)
    page.wait("t.clips().length === 3 && t.clips().every((video) => video.readyState >= 2 && !video.paused)")
    times = "t.clips().map((video) => video.currentTime)"

    def together() -> bool:
        moments = page.value(times)
        return max(moments) - min(moments) < 0.15

    until(together, what="the clips are in step", patience=10)


def test_the_seed_of_the_chosen_clip_comes_back(page: Page):
    page.generate(prompt=PROMPT, steps=2, count=2, seed=41)
    page.press("dice")
    until(lambda: page.read("seed") == -1, what="the seed is -1")
    page.js("document.querySelectorAll('.txt2video-clip')[1].click()")
    page.press("recycle")
    until(lambda: page.read("seed") == 42, what="the seed is the second clip's")


def test_the_folder_is_opened_by_the_webui(page: Page, server: Server):
    (name,) = page.generate(prompt=PROMPT, steps=2, count=1)
    page.press("open_folder")
    folder = str(server.file(name).parent)
    until(lambda: server.look()["opened"][-1:] == [folder], what="the folder is opened")


def test_a_playing_clip_does_not_hold_back_other_scripts_of_the_page(page: Page):
    page.generate(prompt=PROMPT, steps=2, count=1)
    page.wait("t.clips()[0].readyState >= 2 && !t.clips()[0].paused")
    page.js("window.updates = 0; onAfterUiUpdate(() => { window.updates += 1; })")
    page.js("document.body.appendChild(document.createElement('p'))")
    page.wait("window.updates > 0", patience=5)


def test_tooltips_explain_fields_and_are_translated_on_the_player(page: Page):
    assert page.value("t.find('steps').title") == FIELDS["steps"].spec.help
    page.js("localization = {'Full screen': 'Vollbild'}")
    page.generate(prompt=PROMPT, steps=2)
    page.wait("document.querySelector('#tab_txt2video [data-do=full]').title === 'Vollbild'")
    assert page.value("document.querySelector('#tab_txt2video [data-do=loop]').title") == "Play again and again"


def test_the_length_of_the_clip_is_said_and_kept(page: Page):
    page.wait("t.find('duration').textContent.includes('8 frames at 8 fps: 1.0 s')")
    page.set("fps", 16)
    page.wait("t.find('duration').textContent.includes('8 frames at 16 fps: 0.5 s')")
