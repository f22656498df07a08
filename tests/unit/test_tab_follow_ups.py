"""What follows from a finished clip, what the tab's places say of their files, and where drafts lie on their sheet."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from t2v_core.errors import RequestError, UnreadableFileError
from t2v_core.frontends.tab import follow_ups, sketch, slots
from t2v_core.frontends.tab.components import request_of
from t2v_core.frontends.tab.picking import pickable_of
from t2v_core.frontends.tab.shelf import Shelf
from t2v_core.infotext import format_infotext
from t2v_core.request import FIELDS, GenerationRequest, ModelDefaults
from t2v_core.video import ModelIdentity

SHOWN = {name: field.default for name, field in FIELDS.items()} | {"prompt": "now", "width": 64, "frames": 8}
RECIPE = GenerationRequest(prompt="then", seed=7, model="demo", loop=True, output_fps=30.0, ping_pong=True)


@pytest.fixture
def shelf(tmp_path) -> Shelf:
    return Shelf()


def put(shelf: Shelf, folder, request: GenerationRequest = RECIPE, *, also=()) -> str:
    """A clip that can't be read as a film, so that its first file is taken."""
    path = folder / "clip.mp4"
    path.write_bytes(b"")
    text = format_infotext(request.resolve(ModelDefaults()), ModelIdentity("demo", ""))
    return shelf.add(path, infotext=text, partial=False, also=also).key


def values_for(shelf: Shelf, shown=SHOWN, **asked) -> GenerationRequest:
    return request_of(follow_ups.values_for(json.dumps(asked), shown, shelf, ()))


def test_a_clip_is_continued_by_the_prompt_of_now_at_its_own_size(shelf, tmp_path):
    key = put(shelf, tmp_path)
    shown = SHOWN | {"source": "a.png", "first_frame": "b.png", "last_frame": "c.png", "mask": "d.png", "drafts": 4}
    request = values_for(shelf, shown, do="continue", key=key)
    assert (request.prompt, request.frames, request.continue_from) == ("now", 8, str(tmp_path / "clip.mp4"))
    assert request.join
    assert (request.width, request.height, request.fps) == (None, None, None)
    assert (request.source, request.first_frame, request.mask, request.drafts) == ("", "", "", 0)
    assert request.last_frame == "c.png"


def test_a_clip_is_refined_by_its_own_prompt_as_the_fields_of_refining_say(shelf, tmp_path):
    shown = SHOWN | {"refine_strength": 0.2, "refine_model": "XL", "upscaler": "ESRGAN", "continue_from": "old.mp4"}
    request = values_for(shelf, shown, do="refine", key=put(shelf, tmp_path))
    assert (request.prompt, request.seed, request.loop) == ("then", 7, True)
    assert (request.source, request.strength) == (str(tmp_path / "clip.mp4"), 0)
    assert (request.refine, request.refine_strength, request.refine_model) == (2, 0.2, "XL")
    assert request.upscaler == "ESRGAN"
    assert (request.output_fps, request.ping_pong, request.continue_from) == (None, False, ""), "that is in the file"
    assert values_for(shelf, SHOWN | {"refine": 1.5}, do="refine", key=put(shelf, tmp_path)).refine == 1.5


def test_drafts_are_nine_or_as_many_as_the_field_says(shelf):
    assert values_for(shelf, do="drafts").drafts == 9
    request = values_for(shelf, SHOWN | {"drafts": 4, "count": 3, "over": "steps=1,2", "pick": "1"}, do="drafts")
    assert (request.drafts, request.count, request.over, request.pick) == (4, 1, "", "")


def test_picks_are_made_by_the_sheets_own_recipe(shelf, tmp_path):
    key = put(shelf, tmp_path, GenerationRequest(prompt="then", seed=7, drafts=4, draft_steps=2))
    request = values_for(shelf, do="pick", key=key, picked="2, 4")
    assert (request.prompt, request.seed, request.drafts, request.pick) == ("then", 7, 4, "2, 4")
    with pytest.raises(RequestError, match="Pick a draft"):
        values_for(shelf, do="pick", key=key, picked="")
    with pytest.raises(RequestError, match="no sheet of drafts"):
        values_for(shelf, do="pick", key=put(shelf, tmp_path), picked="1")


@pytest.mark.parametrize("ask", ["", "[]", "nothing", '{"do": "continue"}', '{"do": "else", "key": {}}'])
def test_what_a_page_asks_may_be_anything(shelf, ask):
    with pytest.raises(UnreadableFileError, match="Choose a clip"):
        follow_ups.values_for(ask, SHOWN, shelf, ())


def test_of_several_files_the_film_is_taken(shelf, tmp_path):
    picture, film = tmp_path / "clip.png", tmp_path / "clip.gif"
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 99, 200)]
    frames[0].save(picture)
    frames[0].save(film, save_all=True, append_images=frames[1:], duration=100)
    clip = shelf.add(picture, infotext="", partial=False, also=(film,))
    assert follow_ups.film_of(clip) == film


def test_a_place_shows_its_file_and_refuses_others(host, tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside, outside):
        folder.mkdir()
        Image.new("RGB", (32, 16)).save(folder / "<b>.png")
    host.input_folders = (inside,)
    shown = slots.slot("source", str(inside / "<b>.png"), host)
    assert "&lt;b&gt;.png · 32×16" in shown
    assert "<b>.png" not in shown
    assert 'data-state="filled"' in shown
    assert "data:image/jpeg" in shown
    refused = slots.slot("source", str(outside / "<b>.png"), host)
    assert "outside the folders" in refused
    assert 'data-state="wrong"' in refused
    assert "data:image" not in refused
    assert 'data-state="wrong"' in slots.slot("mask", str(inside / "gone.png"), host)
    assert 'data-state="empty"' in slots.slot("mask", " ", host)
    assert slots.sizes_of({"source": str(outside / "<b>.png")}, model="demo", host=host) == {}


def test_a_picture_gives_its_shape_and_a_film_also_its_time(host, tmp_path):
    host.input_folders = None
    frames = [Image.new("RGB", (96, 48), (shade, 0, 0)) for shade in range(0, 240, 20)]
    picture, film = tmp_path / "a.png", tmp_path / "a.gif"
    frames[0].save(picture)
    frames[0].save(film, save_all=True, append_images=frames[1:], duration=100, loop=0)
    assert slots.sizes_of({"first_frame": str(picture)}, model="demo", host=host) == {"width": 64, "height": 32}
    found = slots.sizes_of({"source": str(film)}, model="demo", host=host)
    assert found == {"width": 64, "height": 32, "frames": 12, "fps": 10}
    assert slots.sizes_of_clip({"source": str(film)}, model="demo", host=host) == found | {"width": 96, "height": 48}


def test_a_mask_is_painted_on_the_frame_where_the_source_begins(host, tmp_path):
    host.input_folders = (tmp_path,)
    source, mask = tmp_path / "a.png", tmp_path / "mask.png"
    Image.new("RGB", (32, 64)).save(source)
    Image.new("L", (32, 64)).save(mask)
    window = sketch.window(str(source), 0.0, mask=str(mask), keeps=False, host=host)
    assert 'width="384" height="768"' in window
    assert window.count("data:image/jpeg") == 2
    assert "may change" in window
    kept = sketch.window(str(source), 0.0, mask=str(tmp_path / "gone.png"), keeps=True, host=host)
    assert 'data-mask=""' in kept
    assert "what stays" in kept
    for wrong in ("", "/etc/hostname"):
        with pytest.raises(RequestError):
            sketch.window(wrong, 0.0, mask="", keeps=False, host=host)


def test_every_draft_has_a_place_of_its_own_on_the_sheet():
    recipe = {"drafts": 5, "seed": 3, "width": 64, "height": 40, "frames": 8, "fps": 8.0, "steps": 6}
    places = pickable_of(recipe)
    assert [(place.number, place.seed) for place in places] == [(number, number + 2) for number in range(1, 6)]
    canvas = np.zeros((500, 500), int)
    for place in places:
        left, top = round(place.left * 500), round(place.top * 500)
        right, bottom = round((place.left + place.width) * 500), round((place.top + place.height) * 500)
        assert 0 <= left < right <= 500
        assert 0 <= top < bottom <= 500
        canvas[top:bottom, left:right] += 1
    assert canvas.max() == 1
    assert pickable_of(recipe | {"drafts": 0}) == pickable_of({"drafts": 3}) == ()
