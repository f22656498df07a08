"""A clip of several files in the tab and on the command line: one entry, every file in reach, none forgotten."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from pathlib import Path

import pytest

from t2v_core.errors import UnreadableFileError
from t2v_core.frontends.tab import recipes
from t2v_core.frontends.tab.clip_actions import WHICH_FRAME, ClipActions
from t2v_core.frontends.tab.making import Maker
from t2v_core.frontends.tab.shelf import Shelf
from t2v_core.media import WRITERS
from t2v_core.media.naming import Placement
from t2v_core.rendering.fake import FakeRenderer
from t2v_core.request import FIELDS, GenerationRequest, ModelDefaults
from t2v_core.run import Run

START = GenerationRequest(model="demo").resolve(ModelDefaults())


class Page:
    """What is around the tab, without gradio."""

    description = "a test"
    most_shown = 4

    def __init__(self, host):
        self.host = host
        self.at_start = {}
        self.announced, self.served = [], []

    def styled(self, prompts, styles):
        return prompts

    def place(self, video):
        return Placement(self.host.output_folder, text_beside=True)

    def announce(self, saved):
        self.announced += saved.paths

    def url(self, path):
        self.served.append(path)
        return f"file={path.name}"


@pytest.fixture
def page(host):
    return Page(host)


@pytest.fixture
def maker(page):
    return Maker(page, FakeRenderer)


def generate(maker, **changes):
    values = {name: getattr(START, name) for name in FIELDS} | {"seed": 3, "frames": 4, "prompt": "a cat"} | changes
    player, keys, recipe, messages = maker.generate(Run(), values)
    assert messages == ""
    return player, json.loads(keys), recipe


def test_a_clip_of_several_files_is_one_entry(maker, page):
    player, keys, _ = generate(maker, format=["gif", "mp4", "png-sequence"], count=2)
    assert len(keys) == 2
    assert player.count("<video") == 2
    clip = maker.shelf.find(keys[0])
    assert [path.name for path in clip.paths] == ["00000-3.gif", "00000-3.mp4", "00000-3-png-sequence"]
    assert len(page.announced) == 6
    assert not any(path.is_dir() for path in page.served)
    assert 'src="file=00000-3.mp4"' in player  # the film is what plays
    assert '<a href="file=00000-3.gif" download="00000-3.gif">' in player
    assert "00000-3-png-sequence" in player


@pytest.mark.parametrize(
    ("formats", "shown"),
    [
        (["gif"], 'poster="file=00000-3.gif"'),
        (["png-sequence", "webp"], 'poster="file=00000-3.webp"'),
        (["mov", "apng"], 'poster="file=00000-3.apng"'),
        (["avi"], 'poster="data:image/jpeg;base64,'),
        (["jpeg-sequence"], 'poster="data:image/jpeg;base64,'),
        (["webm-av1", "gif"], 'src="file=00000-3.webm"'),
    ],
)
def test_what_a_browser_cannot_play_is_shown_as_a_picture(maker, formats, shown):
    player, _, _ = generate(maker, format=formats)
    assert shown in player


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_has_its_frames_its_recipe_and_a_zip(maker, page, name):
    _, keys, recipe = generate(maker, format=name)
    clip = maker.shelf.find(keys[0])
    chosen = json.dumps({"key": keys[0], "frame": 3})
    actions = ClipActions(page, maker)
    (gallery,) = actions.frames(chosen)
    count = 1 if name == "png" else 4
    assert len(gallery["value"]) == count
    assert actions.frame(chosen, WHICH_FRAME[0])[0].tobytes() == gallery["value"][-1].tobytes()
    picture = next(clip.path.iterdir()) if clip.path.is_dir() else clip.path
    assert recipes.recipe_in(picture) == clip.infotext
    assert recipes.recipe_in(clip.path) == clip.infotext
    assert "a cat" in recipe
    (download,) = actions.zip(chosen, json.dumps(keys))
    with zipfile.ZipFile(download["value"]) as archive:
        names = archive.namelist()
    assert names == ([f"00000-3/{i:05d}{picture.suffix}" for i in range(4)] if clip.path.is_dir() else [clip.path.name])


def test_deleting_a_clip_removes_all_its_files(maker, page):
    _, keys, _ = generate(maker, format="mp4,gif,jpeg-sequence")
    ClipActions(page, maker).delete(json.dumps({"key": keys[0]}), json.dumps(keys))
    assert list(page.host.output_folder.iterdir()) == []


def test_a_folder_of_pictures_is_deleted_with_its_recipe(maker, page):
    _, keys, _ = generate(maker, format="png-sequence")
    assert {path.name for path in page.host.output_folder.iterdir()} == {"00000-3", "00000-3.txt"}
    maker.shelf.delete(keys[0])
    assert list(page.host.output_folder.iterdir()) == []


def test_a_clip_is_there_as_long_as_one_of_its_files_is(tmp_path):
    shelf, film, folder = Shelf(), tmp_path / "a.mp4", tmp_path / "a"
    film.touch()
    folder.mkdir()
    clip = shelf.add(film, infotext="", partial=False, also=(folder,))
    film.unlink()
    assert shelf.find(clip.key) == clip
    assert shelf.those([clip.key]) == [clip]
    shutil.rmtree(folder)
    assert shelf.those([clip.key]) == []
    with pytest.raises(UnreadableFileError):
        shelf.find(clip.key)


def test_a_request_takes_formats_as_text_or_as_a_list():
    from t2v_core.service import CHOICES

    for given in ("mp4, gif", "mp4,gif", ["mp4", "gif"]):
        request = GenerationRequest.from_dict({"format": given}, choices=CHOICES)
        assert {name.strip() for name in request.format.split(",")} == {"mp4", "gif"}
        request.check(CHOICES)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("mp4, gift", "Format has no 'gift'. Did you mean 'gif'?"),
        ("", "Format has no ''"),
        (" , ", "Format has no ''"),
        ("gif, mp4, gif", "Format names 'gif' twice."),
        (["gif", 3], "Format is text"),
        ("MP4", "Did you mean 'mp4'?"),
    ],
)
def test_formats_that_are_wrong_are_named(given, said):
    from t2v_core.errors import RequestError
    from t2v_core.service import CHOICES

    with pytest.raises(RequestError) as caught:
        GenerationRequest.from_dict({"format": given}, choices=CHOICES)
    assert said in str(caught.value)


def test_a_disk_must_have_room_for_every_format(host, monkeypatch):
    from collections import namedtuple

    from t2v_core import service
    from t2v_core.errors import OutputError

    usage = namedtuple("usage", "total used free")
    request = GenerationRequest(width=512, height=512, frames=100, seed=1)
    pixels = 512 * 512 * 100
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 5 * pixels))
    with pytest.raises(OutputError, match="free, and the videos may need"):
        service.generate(
            [dataclasses.replace(request, format="mp4,mov,apng")], renderer=FakeRenderer(), host=host, run=Run()
        )


def test_the_command_line_prints_the_path_of_every_file(host, capsys):
    from t2v_core import service
    from t2v_core.frontends.cli.progress import ConsoleProgress

    with ConsoleProgress() as console:
        request = GenerationRequest(seed=5, format="mp4,gif")
        service.generate([request], renderer=FakeRenderer(), host=host, run=Run(console))
    printed = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert printed == ["00000-5.mp4", "00000-5.gif"]
