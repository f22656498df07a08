"""Grids and sheets of drafts through the service: right clips at right places, in step, and made again from it."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from t2v_core import service
from t2v_core.errors import NonFiniteError, OutputError, RequestError
from t2v_core.grid import Cell, Sheet
from t2v_core.grid.axes import grid_of
from t2v_core.grid.frames import SheetFrames, Shown, common_rate
from t2v_core.grid.labels import Label, Words
from t2v_core.grid.layout import LONGEST_SIDE, layout_of
from t2v_core.infotext import parse_infotext
from t2v_core.media.reading import probe, read_frames, read_metadata
from t2v_core.rendering.fake import FakeRenderer
from t2v_core.request import GenerationRequest, ModelDefaults
from t2v_core.run import ClipSaved, Progress, Run, Stage


def make(host, *requests, run=None, renderer=None, **options):
    """The files of a call, its events, and the renderer."""
    renderer = renderer or FakeRenderer(ModelDefaults(steps=4, width=64, height=48, frames=3))
    run, events = run or Run(), []
    with run.heard_by(events.append):
        service.generate(requests, renderer=renderer, host=host, run=run, **options)
    return [event for event in events if isinstance(event, ClipSaved)], events, renderer


def recipe_of(clip):
    return parse_infotext(read_metadata(clip.path) or "")


def again(clip, **changes):
    values = {**recipe_of(clip).values, **changes}
    return GenerationRequest.from_dict(values, choices=service.CHOICES)


def close(one, other):
    return np.abs(one.astype(int) - other).mean() < 6  # what H.264 changes


def test_a_grid_is_the_singles_and_one_video_of_them_all(host):
    saved, _, renderer = make(host, GenerationRequest(prompt="p", seed=5, over="seed=5,6; steps=2,3,4"))
    assert [clip.path.name for clip in saved[:-1]] == [
        "00000-5.mp4", "00001-6.mp4", "00002-5.mp4", "00003-6.mp4", "00004-5.mp4", "00005-6.mp4"
    ]  # fmt: skip
    assert saved[-1].path.name == "00006-5-grid.mp4"
    assert not any(clip.partial for clip in saved)
    assert [(request.seed, request.steps) for request in renderer.rendered] == [
        (5, 2), (6, 2), (5, 3), (6, 3), (5, 4), (6, 4)
    ]  # fmt: skip
    for clip, request in zip(saved[:-1], renderer.rendered, strict=True):
        assert recipe_of(clip).values.get("over", "") == ""
        assert recipe_of(clip).values["steps"] == request.steps


def test_every_cell_shows_its_clip_at_its_time(host):
    saved, _, renderer = make(host, GenerationRequest(prompt="p", seed=5, over="seed=5,6; steps=2,3; cfg_scale=1,9"))
    singles = [read_frames(clip.path) for clip in saved[:-1]]
    grid, request = (
        read_frames(saved[-1].path),
        GenerationRequest(prompt="p", seed=5, over="seed=5,6; steps=2,3; cfg_scale=1,9"),
    )
    words = Words()
    layout = layout_of(grid_of(request), width=64, height=48, words=words)
    assert grid.shape == (3, layout.height, layout.width, 3)
    for number, cell in enumerate(grid_of(request).cells):
        x, y = layout.corners[cell.place]
        for index in range(3):
            shown = grid[index, y + 8 : y + layout.cell_height - 8, x + 8 : x + layout.cell_width - 8]
            assert close(shown.mean(axis=(0, 1)), singles[number][index].mean(axis=(0, 1)))
    assert len(renderer.rendered) == 8


def test_a_grids_own_recipe_makes_it_again(host):
    saved, _, renderer = make(host, GenerationRequest(prompt="p", over="seed=5,6; steps=2,3", seed=8))
    first = list(renderer.rendered)
    recipe = again(saved[-1])
    assert recipe.over == "seed=5,6; steps=2,3"
    more, _, once_more = make(host, recipe)
    assert [dataclasses.replace(each, model="") for each in once_more.rendered] == [
        dataclasses.replace(each, model="") for each in first
    ]
    assert np.array_equal(read_frames(more[-1].path), read_frames(saved[-1].path))


def test_a_random_seed_is_the_same_in_every_cell_and_in_the_recipe(host):
    saved, _, renderer = make(host, GenerationRequest(over="steps=1,2,3"))
    assert len({request.seed for request in renderer.rendered}) == 1
    assert recipe_of(saved[-1]).values["seed"] == renderer.rendered[0].seed


def stopping_at(number):
    """A run that is interrupted in its so-many-th clip."""
    clips = []

    def listen(event):
        if isinstance(event, Progress) and event.stage is Stage.SAMPLING and event.done == 1:
            clips.append(event)
            if len(clips) == number:
                run.interrupt()

    run = Run(listen)
    return run


def test_an_interrupt_keeps_the_grid_of_what_there_is(host):
    saved, _, _ = make(host, GenerationRequest(seed=5, over="seed=5,6,7,8"), run=stopping_at(3))
    assert [clip.path.name for clip in saved] == [
        "00000-5.mp4", "00001-6.mp4", "00002-7-partial.mp4", "00003-5-grid-partial.mp4"
    ]  # fmt: skip
    assert saved[-1].partial
    recipe = recipe_of(saved[-1])
    assert recipe.extras["Clips on the sheet"] == "3 of 4"
    assert recipe.values["over"] == "seed=5,6,7,8"


class FailsOnThird(FakeRenderer):
    def render(self, request, run):
        if len(self.rendered) == 2:
            raise NonFiniteError("no picture")
        return super().render(request, run)


@pytest.mark.parametrize("fields", [{"over": "seed=5,6,7"}, {"drafts": 3}])
def test_an_error_keeps_the_sheet_of_what_there_is(host, fields):
    events = []
    with pytest.raises(NonFiniteError):
        make(host, GenerationRequest(seed=5, **fields), run=Run(events.append), renderer=FailsOnThird())
    last = [event for event in events if isinstance(event, ClipSaved)][-1]
    assert last.partial
    assert recipe_of(last).extras["Clips on the sheet"] == "2 of 3"


def test_what_is_wrong_in_any_cell_is_said_before_the_first(host):
    renderer = FakeRenderer()
    with pytest.raises(RequestError, match="Steps"):
        make(host, GenerationRequest(seed=5, over="steps=5,0"), renderer=renderer)
    with pytest.raises(RequestError, match="Sampler"):
        make(host, GenerationRequest(seed=5, over="sampler=DDIM,Magic"), renderer=renderer)
    assert not renderer.rendered
    assert not host.output_folder.exists()


def test_a_grid_without_room_is_refused_before_anything_is_made(host):
    renderer = FakeRenderer(ModelDefaults(width=1024, height=576))
    with pytest.raises(OutputError, match="no room"):
        make(host, GenerationRequest(prompt="p"), GenerationRequest(over="seed=1-300"), renderer=renderer)
    assert not renderer.rendered


def test_drafts_are_one_sheet_in_few_steps_and_nothing_else(host):
    renderer = FakeRenderer(ModelDefaults(steps=25, width=64, height=48, frames=3))
    saved, _, _ = make(host, GenerationRequest(prompt="p", seed=11, drafts=5, draft_steps=3), renderer=renderer)
    (sheet,) = saved
    assert sheet.path.name == "00000-11-drafts.mp4"
    assert {(request.steps, request.width, request.frames) for request in renderer.rendered} == {(3, 64, 3)}
    assert [request.seed for request in renderer.rendered] == [11, 12, 13, 14, 15]


def test_a_draft_leaves_out_what_comes_after_the_model(host):
    renderer = FakeRenderer(ModelDefaults(steps=25, width=64, height=48, frames=3))
    wants = {"upscale": 2.0, "output_fps": 30.0, "refine": 2.0, "ping_pong": True}
    (sheet,), _, _ = make(host, GenerationRequest(seed=1, drafts=2, **wants), renderer=renderer)
    assert {(each.upscale, each.output_fps, each.refine) for each in renderer.rendered} == {(1.0, None, 0.0)}
    assert probe(sheet.path).frames == 4, "there and back is seen in a draft, too"
    make(host, again(sheet, pick="2"), renderer=renderer)
    assert {name: getattr(renderer.rendered[-1], name) for name in wants} == wants


def test_picks_from_a_sheet_are_the_plain_clips_of_their_seeds(host):
    renderer = FakeRenderer(ModelDefaults(steps=25, width=64, height=48, frames=3))
    (sheet,), _, _ = make(host, GenerationRequest(prompt="p", drafts=5, draft_steps=3), renderer=renderer)
    first = recipe_of(sheet).values["seed"]
    drafts, renderer.rendered = list(renderer.rendered), []
    saved, _, _ = make(host, again(sheet, pick="4, 2"), renderer=renderer)
    assert [request.seed for request in renderer.rendered] == [first + 3, first + 1]
    assert {request.steps for request in renderer.rendered} == {25}
    assert drafts[3].seed == renderer.rendered[0].seed
    picked = list(renderer.rendered)
    plain, _, _ = make(host, again(saved[0]), renderer=renderer)
    assert dataclasses.replace(renderer.rendered[-1], model="") == dataclasses.replace(picked[0], model="")
    assert "drafts" not in recipe_of(plain[0]).values


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"over": "seed=1,2", "drafts": 3}, "can't be one"),
        ({"drafts": 3, "count": 2}, "Clips"),
        ({"pick": "1"}, "Drafts"),
        ({"drafts": 3, "seed": 4, "pick": "9"}, "1 to 3"),
        ({"over": "nonsense"}, "="),
    ],
)
def test_wishes_that_do_not_go_together_are_refused_with_a_remedy(host, fields, said):
    with pytest.raises(RequestError, match=said):
        make(host, GenerationRequest(prompt="p", **fields))


def test_clips_of_several_rates_and_lengths_play_in_step():
    def clip(count, fps):
        frames = np.stack([np.full((10, 10, 3), 10 * index, np.uint8) for index in range(count)])
        return Shown(frames, Fraction(fps))

    request = GenerationRequest(over="fps=8,12")
    layout = layout_of(grid_of(request), width=10, height=10, words=Words())
    frames = SheetFrames(layout, {(0, 0, 0): clip(8, 8), (0, 0, 1): clip(6, 12)}, words=Words())
    assert frames.fps == 24
    assert len(frames) == 24
    for index in (0, 5, 11, 23):
        (frame,) = frames[index : index + 1]
        for place, fps, last in (((0, 0, 0), 8, 7), ((0, 0, 1), 12, 5)):
            x, y = layout.corners[place]
            left, top = x + (layout.cell_width - 10) // 2, y + (layout.cell_height - 10) // 2
            assert frame[top + 5, left + 5, 0] == 10 * min(index * fps // 24, last)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [([8], 8), ([8, 8], 8), ([8, 12], 24), ([24, 30], 30), ([8, 60], 60), ([Fraction(2997, 125)], Fraction(2997, 125))],
)
def test_the_common_rate(rates, expected):
    assert common_rate([Fraction(rate) for rate in rates]) == expected


def test_sizes_as_an_axis_keep_their_proportions(host):
    saved, _, _ = make(host, GenerationRequest(seed=1, over="width=32,128; height=32,128"))
    grid = read_frames(saved[-1].path)
    layout = layout_of(
        grid_of(GenerationRequest(over="width=32,128; height=32,128")), width=128, height=128, words=Words()
    )
    assert grid.shape[1:3] == (layout.height, layout.width)
    x, y = layout.corners[0, 0, 0]
    small = read_frames(saved[0].path)[0].mean(axis=(0, 1))
    assert close(grid[0, y + 60, x + 60], small)
    assert close(grid[0, y + 20, x + 20], np.array((44, 44, 44)))


def test_finished_frames_are_what_a_grid_shows(host):
    saved, _, _ = make(host, GenerationRequest(seed=1, over="output_fps=,24; ping_pong=off,on"))
    assert [probe(clip.path).frames for clip in saved[:-1]] == [3, 9, 4, 12]
    assert probe(saved[-1].path).fps == 24
    assert probe(saved[-1].path).frames == 12
    assert recipe_of(saved[-1]).values["over"] == "output_fps=,24; ping_pong=off,on"


@pytest.mark.parametrize("cells", [(1, 1), (20, 20), (400, 1), (3, 133)])
def test_any_number_of_cells_fits_into_one_video(cells):
    columns, rows = cells
    request = GenerationRequest()
    found = tuple(Cell(request, (0, row, column)) for row in range(rows) for column in range(columns))
    sheet = Sheet(request, found, ("",), ("a title",) * rows, ("another",) * columns, "grid", True)
    if max(cells) > 150:
        with pytest.raises(Exception, match="no room"):
            layout_of(sheet, width=1024, height=576, words=Words())
        return
    layout = layout_of(sheet, width=1024, height=576, words=Words())
    assert max(layout.width, layout.height) <= LONGEST_SIDE
    assert layout.width % 2 == layout.height % 2 == 0
    boxes = [(x, y, x + layout.cell_width, y + layout.cell_height) for x, y in layout.corners.values()]
    assert all(right <= layout.width and bottom <= layout.height for _, _, right, bottom in boxes)
    for x, y, width, height in (label.box for label in layout.labels):
        assert not any(
            x < right and left < x + width and y < bottom and top < y + height for left, top, right, bottom in boxes
        )


def ink(text, size=16, box=(0, 0, 300, 60)):
    """What a label leaves on black."""
    picture = Image.new("RGB", (300, 60))
    words = Words()
    words.draw(picture, Label(text, box, size))
    return np.asarray(picture).astype(int), words


def test_labels_are_written_in_any_script_and_different_texts_look_different():
    texts = [
        "a red ball",
        "мяч",
        "κόκκινη",
        "红色的球",
        "赤いボール",
        "빨간 공",
        "كرة حمراء",
        "כדור אדום",
        "लाल गेंद",
        "ลูกบอล",
        "🎈",
        "\U00020000",
    ]
    drawn = [ink(text)[0] for text in texts]
    for picture in drawn:
        assert picture.max() > 150
    for index, one in enumerate(drawn):
        for other in drawn[index + 1 :]:
            assert np.abs(one - other).sum() > 5000


def test_a_character_that_no_font_has_is_shown_by_its_number_and_named():
    one, words = ink("\U0001d2e0")  # a number of the Kaktovik system
    other, _ = ink("\U0001d2e1")
    assert words.missing == {"\U0001d2e0"}
    assert np.abs(one - other).sum() > 200


def test_long_texts_are_wrapped_and_cut_within_their_box():
    long = "a very long prompt about a red ball and many other things " * 5
    for text in (long, "x" * 300, "红" * 200):
        picture, _ = ink(text, size=12, box=(20, 10, 100, 32))
        assert picture[10:42, 20:120].max() > 150
        outside = picture.copy()
        outside[8:44, 18:122] = 0
        assert outside.max() == 0
    words = Words()
    lines = words.lines(long, 12, 100, most=3)
    assert len(lines) == 3
    assert lines[-1].endswith("…")
    assert all(words.width(line, 12) <= 100 for line in lines)


def test_a_label_without_text_and_one_of_spaces_do_nothing():
    for text in ("", "   ", "\n"):
        assert ink(text)[0].max() == 0
