"""The tab without a page: fields to requests and back, results, recipes, and what a page may ask for."""

from __future__ import annotations

import dataclasses
import gc
import html
import json
from pathlib import Path

import pytest
from field_values import DRAFTS, GRID, IN_PIECES, PLAIN, WITH_FILES

from t2v_core.errors import OutOfMemoryError, OutputError, RequestError, UnreadableFileError
from t2v_core.frontends.tab import layout, pages, presets, recipes
from t2v_core.frontends.tab.about import native_choices, native_of
from t2v_core.frontends.tab.clip_actions import WHICH_FRAME, ClipActions
from t2v_core.frontends.tab.components import component_of, request_of
from t2v_core.frontends.tab.guarding import guarded
from t2v_core.frontends.tab.making import FAILED, Maker
from t2v_core.frontends.tab.shelf import Shelf
from t2v_core.frontends.tab.surroundings import PromptRow
from t2v_core.media.naming import Placement
from t2v_core.media.reading import read_frames
from t2v_core.models.catalogue import find_all
from t2v_core.rendering.fake import FakeRenderer
from t2v_core.rendering.forecast import Forecast
from t2v_core.request import FIELDS, GenerationRequest, ModelDefaults
from t2v_core.run import Run

START = dataclasses.replace(GenerationRequest(model="demo").resolve(ModelDefaults()), **dict.fromkeys(layout.LEFT_OPEN))


class FakeSurroundings:
    """A page without gradio: files go into one folder, and what is told is remembered."""

    description = "a test"
    most_shown = 2

    def __init__(self, host):
        self.host = host
        self.at_start = {}
        self.announced, self.opened = [], []

    def styled(self, prompts, styles):
        return (", ".join([prompts[0], *styles]), prompts[1])

    def place(self, video):
        return Placement(self.host.output_folder)

    def announce(self, saved):
        self.announced.append(saved.path)

    def url(self, path):
        return f"file={path}"

    def open_folder(self, folder):
        self.opened.append(folder)


@pytest.fixture
def surroundings(host):
    return FakeSurroundings(host)


@pytest.fixture
def maker(surroundings):
    return Maker(surroundings, FakeRenderer)


def shown_values(**changes):
    """What the components hold when the page opens, with some changed."""
    return {name: getattr(START, name) for name in FIELDS} | changes


def generate(maker, **changes):
    player, keys, recipe, messages = maker.generate(Run(), shown_values(**{"seed": 3, **changes}))
    return player, json.loads(keys) if isinstance(keys, str) else keys, recipe, messages


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_has_a_component_that_shows_its_value(name):
    value = getattr(START, name)
    component = component_of(name, value, choices=["demo"] if name == "model" else ())
    assert component.label == FIELDS[name].spec.label
    assert component.elem_id == f"txt2video_{name}"
    assert component.value == ("" if value is None else ["mp4"] if name == "format" else value)


def test_the_components_values_make_the_same_request():
    assert request_of(shown_values()) == START


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("steps", 12.0, 12),
        ("cfg_scale", 7.000000000000001, 7.0),
        ("eta", "", None),
        ("eta", "0.5", 0.5),
        ("seed", None, -1),
        ("prompt", None, ""),
        ("split_guidance", True, True),
        ("format", ["mp4", "gif"], "mp4, gif"),
        ("format", [], "mp4"),
    ],
)
def test_what_a_component_holds_becomes_the_fields_value(name, raw, value):
    assert getattr(request_of(shown_values(**{name: raw})), name) == value


@pytest.mark.parametrize(("name", "raw"), [("steps", 2.5), ("eta", "much"), ("width", 70), ("sampler", "none")])
def test_what_cannot_be_a_value_is_named(name, raw):
    with pytest.raises(RequestError) as caught:
        request_of(shown_values(**{name: raw}))
    assert [problem.field for problem in caught.value.problems] == [name]


def test_a_run_gives_a_player_keys_a_recipe_and_tells_of_each_file(maker, surroundings):
    player, keys, recipe, messages = generate(maker, prompt="a <b>cat</b>", count=2, frames=3)
    assert player.count("<video") == player.count("data:image/jpeg;base64,") == 2
    assert "a &lt;b&gt;cat" in player
    assert "<b>cat" not in player + recipe
    assert messages == ""
    paths = [maker.shelf.find(key).path for key in keys]
    assert surroundings.announced == paths
    assert [path.name for path in paths] == ["00000-3.mp4", "00001-4.mp4"]
    assert str(paths[0]) not in json.dumps(keys)


def test_all_clips_are_kept_where_few_are_shown(maker):
    player, keys, _, _ = generate(maker, count=5)
    assert player.count("<video") == 2
    assert len(keys) == 5


def test_styles_are_in_the_recipe(maker):
    _, keys, _, _ = maker.generate(Run(), shown_values(prompt="a cat"), styles=["in oil"])
    assert "a cat, in oil" in maker.shelf.find(json.loads(keys)[0]).infotext


def test_bad_fields_are_named_for_the_page_and_what_was_shown_stays(maker):
    *results, messages = maker.generate(Run(), shown_values(steps=0, width=70))
    assert results != list(FAILED)
    assert all(not isinstance(result, str) for result in results)
    fields = html.unescape(messages.split('data-fields="')[1].split('"')[0])
    assert json.loads(fields) == ["steps", "width"]
    assert "1 to 1000" in messages


def test_an_error_of_ours_comes_with_a_report_to_copy(surroundings):
    class Broken(FakeRenderer):
        def render(self, request, run):
            raise KeyError("<oops>")

    *_, messages = Maker(surroundings, Broken).generate(Run(), shown_values(prompt="a secret plan"))
    assert "&lt;oops&gt;" in messages
    assert "Copy report" in messages
    assert "Traceback" in messages
    assert "a secret plan" in messages
    assert "a test" in messages


def test_a_stopped_run_shows_what_was_saved(maker):
    run = Run()
    run.listen(lambda event: run.interrupt() if getattr(event, "done", 0) == 2 else None)
    player, keys, _, _ = maker.generate(run, shown_values(seed=1, count=3))
    assert len(json.loads(keys)) == 1
    assert "stopped early" in player


def test_a_page_names_clips_by_key_and_only_those_it_was_given(tmp_path):
    shelf, file = Shelf(), tmp_path / "clip.mp4"
    file.write_bytes(b"x")
    file.with_suffix(".txt").write_text("recipe")
    clip = shelf.add(file, infotext="", partial=False)
    assert shelf.find(clip.key) is clip
    for key in ("", str(file), "../clip.mp4"):
        with pytest.raises(UnreadableFileError):
            shelf.find(key)
    shelf.delete(clip.key)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UnreadableFileError):
        shelf.delete(clip.key)


def test_the_buttons_under_the_player(maker, surroundings):
    _, keys, _, _ = generate(maker, count=2, frames=4)
    actions, chosen = ClipActions(surroundings, maker), json.dumps({"key": keys[1], "frame": 2})
    frames = read_frames(maker.shelf.find(keys[1]).path)
    for which, index in zip(WHICH_FRAME, (2, 0, 3), strict=True):
        (picture,) = actions.frame(chosen, which)
        assert picture.tobytes() == frames[index].tobytes()
    (gallery,) = actions.frames(chosen)
    assert len(gallery["value"]) == 4
    (gallery,) = actions.frames(json.dumps({**json.loads(chosen), "frames_shown": True}))
    assert (gallery["value"], gallery["visible"]) == (None, False)
    (download,) = actions.zip(chosen, json.dumps(keys))
    assert Path(download["value"]).stat().st_size > 0
    actions.open_folder(chosen)
    assert surroundings.opened == [surroundings.host.output_folder]
    player, left = actions.delete(chosen, json.dumps(keys))
    assert json.loads(left) == [keys[0]]
    assert player.count("<video") == 1


@pytest.mark.parametrize("chosen", ["", "{}", "nonsense", '"text"', '{"key": "../../etc/passwd"}', '{"key": 5}'])
def test_the_buttons_bear_whatever_a_page_says(maker, surroundings, chosen):
    with pytest.raises(UnreadableFileError, match="Choose a clip"):
        ClipActions(surroundings, maker).frames(chosen)


CHANGED = {**PLAIN, **WITH_FILES, "model": "demo", "upscaler": "Lanczos", "sound": "source"}
"""What can be in one clip, with an upscaler that is everywhere and a sound that needs no file."""


def test_every_recorded_field_is_tried():
    recorded = {name for name, field in FIELDS.items() if field.spec.infotext}
    assert recorded | {"prompt", "negative_prompt", "model"} == {*CHANGED, *IN_PIECES, *GRID, *DRAFTS}


@pytest.mark.parametrize(
    "changes",
    [CHANGED, IN_PIECES, {}, GRID, DRAFTS],
    ids=["all changed", "in pieces", "all at default", "grid", "drafts"],
)
def test_a_made_file_fills_every_field_again(maker, surroundings, changes):
    changes = {"seed": 1, **changes}
    wanted = request_of(shown_values(**changes))
    _, keys, _, _ = generate(maker, **changes)
    text = recipes.recipe_in(maker.shelf.find(keys[0]).path)
    filled = recipes.updates(text, surroundings.host.models_folders)
    assert list(filled) == list(FIELDS)
    pasted = {name: change["value"] for name, change in filled.items() if "value" in change}
    again = request_of(shown_values(**pasted))
    if "precision" not in changes:  # a recipe says which precision "auto" was
        wanted = wanted.with_field("precision", again.precision)
    if "window" not in changes:  # and how the clip was cut
        wanted = dataclasses.replace(wanted, window=again.window, window_overlap=again.window_overlap)
    assert again == wanted


def test_a_text_that_is_no_recipe_is_a_prompt():
    filled = recipes.updates("just a prompt", ())
    assert filled["prompt"]["value"] == "just a prompt"
    assert all("value" not in change for name, change in filled.items() if "prompt" not in name)


def test_a_recipe_of_a_model_that_is_not_here_keeps_the_model_that_is_chosen():
    filled = recipes.updates("a cat\nSteps: 5, Seed: 1, Size: 64x64, Model: zeroscope_v2_XL, Model hash: 123", ())
    assert "value" not in filled["model"]
    assert filled["steps"]["value"] == 5


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif"])
def test_recipes_in_pictures(tmp_path, suffix):
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    picture, path, text = Image.new("RGB", (8, 8)), tmp_path / f"picture{suffix}", "a cat\nSteps: 5, Seed: 1, Size: 8x8"
    if suffix == ".png":
        info = PngInfo()
        info.add_text("parameters", text)
        picture.save(path, pnginfo=info)
    elif suffix == ".gif":
        picture.save(path, comment=text.encode())
    else:
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode("utf-16-be")
        picture.save(path, exif=exif)
    assert recipes.recipe_in(path) == text


def test_a_picture_without_a_recipe_and_a_broken_one_are_named(tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    for name in ("plain.png", "broken.png"):
        with pytest.raises(UnreadableFileError, match=name):
            recipes.recipe_in(tmp_path / name)


def test_a_report_holds_what_an_issue_needs():
    text = pages.report(ValueError("no"), request="the request", surroundings="a WebUI 1.2")
    assert all(part in text for part in ("ValueError: no", "the request", "a WebUI 1.2", "torch", "Python"))


def test_a_preset_keeps_the_fields_under_its_name(tmp_path):
    folder = tmp_path / "presets"
    assert presets.names(folder) == []
    values = shown_values(**CHANGED)
    assert presets.save(folder, " my ../preset ", values) == "my .._preset"
    presets.save(folder, "second", shown_values(steps=5))
    presets.save(folder, "second", shown_values(steps=6))
    assert presets.names(folder) == ["my .._preset", "second"]
    assert request_of(shown_values(**presets.load(folder, "my .._preset"))) == request_of(values)
    assert presets.load(folder, "second")["steps"] == 6
    presets.delete(folder, "second")
    assert [path.name for path in folder.iterdir()] == ["my .._preset.json"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_preset_of_another_version_fills_what_is_still_right(tmp_path):
    (tmp_path / "old.json").write_text(json.dumps({"steps": 5, "wings": 2, "width": 7, "sampler": "gone"}))
    loaded = presets.load(tmp_path, "old")
    assert {name: value for name, value in loaded.items() if value is not None} == {"steps": 5}
    assert "window" in loaded, "what can be left open was"
    assert "width" not in loaded, "the model's own values stand in the page always"


@pytest.mark.parametrize("content", [None, "no json", "[1]", "\udcff"])
def test_a_preset_that_is_none_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "odd.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UnreadableFileError, match="odd"):
        presets.load(tmp_path, "odd")


def test_a_preset_needs_a_name_and_right_values(tmp_path):
    with pytest.raises(OutputError, match="name"):
        presets.save(tmp_path, "  ", shown_values())
    with pytest.raises(RequestError):
        presets.save(tmp_path, "a", shown_values(steps=0))
    assert list(tmp_path.iterdir()) == []


def test_a_button_that_fails_says_so_in_the_page_and_changes_nothing():
    assert guarded(lambda: ["a"], outputs=1)() == ["a", ""]
    for error, words in ((OutputError("The disk is full."), "The disk is full."), (KeyError("x"), "Copy report")):

        def fail(error=error):
            raise error

        unchanged, message = guarded(fail, outputs=1)()
        assert "value" not in unchanged
        assert words in message


def test_the_line_under_generate_says_what_the_values_will_take(maker):
    assert "About 5 s and 3 MB" in maker.forecast(shown_values(steps=5, frames=3))
    assert "About 4 min" in maker.forecast(shown_values(steps=60, count=4))
    assert maker.forecast(shown_values(steps=0)) == ""
    untold = Forecast("cuda", "fp16", weights=3_600_000_000)
    assert "Weights: 3.6 GB (fp16 on cuda)" in pages.forecast(untold)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # gradio leaves its event loop open
def test_every_field_has_its_own_component_in_the_whole_tab(surroundings, maker, tmp_path, monkeypatch):
    import gradio as gr

    connected, tips = [], []
    surroundings.presets_folder = tmp_path
    surroundings.prompt_row = lambda: PromptRow(
        prompt=component_of("prompt", ""),
        negative_prompt=component_of("negative_prompt", ""),
        generate=gr.Button(),
        paste=gr.Button(),
    )
    surroundings.explain = lambda component, tooltip: tips.append((component.elem_id, tooltip))
    surroundings.tool_button = lambda symbol, **options: gr.Button(symbol, elem_id=options["elem_id"])
    surroundings.body = surroundings.row = gr.Row
    surroundings.job = lambda make, failed: lambda *values: make(Run(), *values[1:])
    surroundings.connect = connected.append
    page = layout.build(surroundings, maker)
    fields = connected[0].fields
    assert list(fields) == list(FIELDS)
    assert {name: component.elem_id for name, component in fields.items()} == {
        name: f"txt2video_{name}" for name in FIELDS
    }
    assert {name: component.label for name, component in fields.items()} == {
        name: field.spec.label for name, field in FIELDS.items()
    }
    buttons = {"txt2video_make_drafts", *(f"txt2video_{name}" for name, _, _ in layout.NEXT)}
    assert {(name, tip) for name, tip in tips if name not in buttons} == {
        (f"txt2video_{name}", field.spec.help) for name, field in FIELDS.items() if name not in layout.PROMPTS
    }
    ids = [block.elem_id for block in page.blocks.values() if getattr(block, "elem_id", None)]
    assert len(ids) == len(set(ids))
    kept = [block for block in page.blocks.values() if not isinstance(block, gr.Accordion)]
    labels = [block.label for block in kept if getattr(block, "label", None) and block.visible is True]
    assert len(labels) == len(set(labels)), "the WebUI keeps defaults by label"
    del page, fields
    connected.clear()
    gc.collect()


def test_out_of_memory_offers_what_to_lower(surroundings):
    class Small(FakeRenderer):
        def render(self, request, run):
            raise OutOfMemoryError("It doesn't fit.", remedy="Lower it.", lower={"split_guidance": True, "frames": 8})

    *_, messages = Maker(surroundings, Small).generate(Run(), shown_values())
    assert "Set Split guidance on, Frames 8" in messages
    values = html.unescape(messages.split('data-values="')[1].split('"')[0])
    assert json.loads(values) == {"split_guidance": True, "frames": 8}


def test_the_newest_recipe_is_the_visitors_own(tmp_path):
    visitor = ["anna"]
    shelf = Shelf(lambda: visitor[0])
    assert shelf.newest_recipe() == ""
    for text in ("first", "second"):
        shelf.add(tmp_path / "a.mp4", infotext=text, partial=False)
    visitor[0] = "bert"
    assert shelf.newest_recipe() == ""
    shelf.add(tmp_path / "b.mp4", infotext="his", partial=False)
    visitor[0] = "anna"
    assert shelf.newest_recipe() == "second"


def test_each_native_size_can_be_chosen(host):
    choices = native_choices(find_all(host.models_folders))
    assert len(choices) == len(set(choices))
    assert choices[0] == "64×64, 8 frames"  # the demo's
    for choice in choices:
        width, height, frames = native_of(choice, host.models_folders)
        assert choice == f"{width}×{height}, {frames} frames"
    assert not any(isinstance(value, int) for value in native_of("1×1", host.models_folders))


def test_a_recipe_whose_files_are_gone_says_so_and_looks_nowhere_else(host, tmp_path):
    text = f"a cat\nSteps: 5, Seed: 1, Size: 64x64, Source: {tmp_path / 'gone.mp4'}, Last frame: /etc/passwd"
    host.input_folders = (tmp_path,)
    gone, outside = recipes.changed_files(text, host), "outside"
    assert len(gone) == 1
    assert outside in gone[0]
    host.input_folders = None
    first, second = recipes.changed_files(text.replace("/etc/passwd", str(tmp_path / "b.png")), host)
    assert first.startswith("Source: the recipe's file gone.mp4 can't be used: There is no file")
    assert second.startswith("Last frame: ")
    assert recipes.changed_files("just a prompt", host) == []


def test_a_page_may_not_name_any_file(maker, surroundings, tmp_path):
    surroundings.host.input_folders = (tmp_path / "uploads",)
    *_, messages = generate(maker, source="/etc/passwd")
    assert "outside the folders" in messages
    assert "source" in messages
    assert not surroundings.announced
