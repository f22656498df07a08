"""A clip is its own recipe: wherever it is dropped, every field of the tab fills."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from chromium import Page, until
from field_values import DRAFTS, GRID, IN_PIECES, PLAIN, WITH_FILES
from servers import LORA, Server

from t2v_core.infotext import format_infotext
from t2v_core.media.reading import read_metadata
from t2v_core.request import FIELDS, GenerationRequest
from t2v_core.video import ModelIdentity

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

ASKED: dict[str, Any] = {**PLAIN, "lora": LORA}
"""What a recipe of one piece holds."""

WRITTEN: dict[str, Any] = {**WITH_FILES, **IN_PIECES, **GRID, **DRAFTS}
"""The fields that ask for other files, or don't go together: their recipe is written, not made."""


def test_every_field_of_the_table_is_tried():
    recorded = {name for name, field in FIELDS.items() if field.spec.infotext}
    assert {*ASKED, *WRITTEN} == recorded | {"prompt", "negative_prompt"}


def differing(page: Page, asked: dict[str, Any] = ASKED) -> dict[str, tuple[Any, Any]]:
    """The fields that show something else than was asked."""
    shown = {name: page.read(name) for name in asked}
    return {name: (shown[name], value) for name, value in asked.items() if shown[name] not in (value, str(value))}


@pytest.fixture
def clip(page: Page, server: Server) -> Path:
    """A clip made with all of `ASKED`, on a page that has been opened again since."""
    server.set_options(save_txt=True)
    kept = server.data / "recipe"
    if not kept.exists():
        (name,) = page.generate(**ASKED)
        kept.write_text(str(server.file(name)))
        page.open()
    server.set_options(save_txt=False)
    assert set(differing(page)) == set(ASKED), "a value of the test is the default"
    return Path(kept.read_text())


@pytest.mark.parametrize("suffix", [".mp4", ".txt"])
def test_a_file_dropped_on_the_prompt_fills_every_field(page: Page, clip: Path, suffix: str):
    page.drop_recipe(clip.with_suffix(suffix))
    assert differing(page) == {}


def test_the_arrow_reads_a_recipe_from_the_prompt(page: Page, clip: Path):
    page.ask(prompt=read_metadata(clip))
    page.js("document.querySelector('#tab_txt2video #paste').click()")
    page.wait("!t.input('prompt').value.includes('Sampler:')")
    page.wait_until_filled()
    assert differing(page) == {}


def test_a_recipe_with_all_other_fields_fills_them(page: Page, tmp_path: Path):
    assert set(differing(page, WRITTEN)) == set(WRITTEN), "a value of the test is the default"
    request = GenerationRequest(prompt="a cat", steps=5, seed=1, width=64, height=64, frames=8, fps=8.0)
    written = tmp_path / "recipe.txt"
    identity = ModelIdentity("demo", "")
    written.write_text(format_infotext(dataclasses.replace(request, **WRITTEN), identity), encoding="utf-8")
    page.drop_recipe(written)
    until(lambda: page.read("draft_steps") == 2, what="the fields are filled")
    assert differing(page, WRITTEN) == {}
    page.wait("t.find('html_log').innerText.includes('last.jpg')")


def test_png_info_reads_a_clip_and_sends_it(page: Page, clip: Path):
    page.ask(prompt="nothing yet")
    page.show("PNG Info")
    page.drop(clip, "#pnginfo_image")
    page.wait("document.querySelector('#tab_pnginfo').innerText.includes('Steps: 7')")
    page.js("document.getElementById('txt2video_tab').click()")
    page.wait_until_filled()
    assert differing(page) == {}
    page.wait("t.find('generate').offsetParent")


def test_a_file_without_a_recipe_changes_nothing_and_says_so(page: Page, tmp_path: Path):
    other = tmp_path / "notes.txt"
    other.write_bytes(b"")
    page.ask(prompt="nothing yet")
    page.drop(other, "#txt2video_prompt textarea")
    page.wait("t.find('html_log').querySelector('.txt2video-problem')")
    assert page.read("prompt") == "nothing yet"


def test_a_lora_can_be_chosen_or_typed_with_a_weight(page: Page, server: Server):
    box = page.chrome.find_element("css selector", "#txt2video_lora input")
    box.click()
    page.wait("t.option('lora', arguments[0])", LORA)
    box.send_keys(f"{LORA}:0.5")
    page.chrome.find_element("css selector", "#txt2video_prompt textarea").click()
    (name,) = page.generate(prompt="a red ball", steps=2)
    assert f'LoRA: "{LORA}:0.5"' in (read_metadata(server.file(name)) or "")
