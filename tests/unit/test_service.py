"""The service makes one file a clip, checks everything first, and never loses what was finished."""

from __future__ import annotations

import dataclasses

import pytest

from t2v_core import saving, service
from t2v_core.errors import Cancelled, NonFiniteError, OutputError, RequestError
from t2v_core.infotext import parse_infotext
from t2v_core.media.naming import Placement
from t2v_core.media.reading import probe, read_frames, read_metadata
from t2v_core.rendering.fake import IDENTITY, FakeRenderer
from t2v_core.request import LARGEST_SEED, RANDOM_SEED, GenerationRequest
from t2v_core.run import ClipSaved, ClipStarted, Progress, Run, Stage


def make(host, *requests, run=None, renderer=None):
    renderer = renderer or FakeRenderer()
    return saved_by(requests, renderer=renderer, host=host, run=run or Run()), renderer


def saved_by(requests, *, run, **options):
    """The clips that a call reports."""
    events = []
    with run.heard_by(events.append):
        service.generate(requests, run=run, **options)
    return [event for event in events if isinstance(event, ClipSaved)]


def stopping(when, how="interrupt"):
    """A run whose user stops at the first event for which `when` is true."""
    pending = [how]

    def listen(event):
        if pending and when(event):
            getattr(run, pending.pop())()

    run = Run(listen)
    return run


def test_each_clip_is_a_file_with_its_own_seed_and_recipe(host):
    saved, _ = make(host, GenerationRequest(prompt="a, b", seed=5, count=3))
    assert [clip.path.name for clip in saved] == ["00000-5.mp4", "00001-6.mp4", "00002-7.mp4"]
    recipe = parse_infotext(read_metadata(saved[1].path) or "")
    assert recipe.values["seed"] == 6
    assert recipe.values["prompt"] == "a, b"
    assert recipe.model == IDENTITY
    assert probe(saved[0].path).frames == 3
    assert read_frames(saved[0].path).shape == (3, 16, 32, 3)


def test_a_saved_clip_comes_with_its_first_frame_and_nothing_more_of_the_video(host):
    (clip,), _ = make(host, GenerationRequest(seed=5))
    first = read_frames(clip.path)[0].astype(int)
    assert abs(first - clip.first_frame).max() < 60  # the file's colours are subsampled
    assert clip.first_frame.base is None


def test_seeds_wrap_around_and_a_random_one_is_drawn_once():
    clips = list(service.single_clips(GenerationRequest(seed=LARGEST_SEED, count=2)))
    assert [clip.seed for clip in clips] == [LARGEST_SEED, 0]
    drawn = [clip.seed for clip in service.single_clips(GenerationRequest(seed=RANDOM_SEED, count=2))]
    assert drawn[1] == (drawn[0] + 1) % (LARGEST_SEED + 1)


def test_a_named_folder_goes_before_the_hosts(host, tmp_path):
    for folder, place in ((None, host.output_folder), (tmp_path / "named", tmp_path / "named")):
        saved = saved_by([GenerationRequest(seed=1)], renderer=FakeRenderer(), host=host, run=Run(), folder=folder)
        assert saved[0].path.parent == place


def test_a_placement_decides_the_folder_the_name_and_the_text_beside_it(host, tmp_path):
    def place(video):
        return Placement(
            tmp_path / str(video.request.seed),
            stem=f"{video.request.frames}-{video.model.name}",
            text_beside=True,
        )

    saved = saved_by(
        [GenerationRequest(prompt="a cat", seed=3, count=2)], renderer=FakeRenderer(), host=host, run=Run(), place=place
    )
    assert [clip.path for clip in saved] == [tmp_path / "3" / "00000-3-fake.mp4", tmp_path / "4" / "00000-3-fake.mp4"]
    for clip in saved:
        assert clip.path.with_suffix(".txt").read_text(encoding="utf-8") == clip.infotext == read_metadata(clip.path)


def test_all_problems_of_all_requests_come_before_any_work(host):
    renderer = FakeRenderer()
    with pytest.raises(RequestError) as caught:
        make(host, GenerationRequest(steps=0), GenerationRequest(), GenerationRequest(fps=0.0), renderer=renderer)
    messages = [problem.message for problem in caught.value.problems]
    assert [message.split(":")[0] for message in messages] == ["Request 1", "Request 3"]
    assert not renderer.rendered
    assert not host.output_folder.exists()


def test_a_folder_that_cannot_be_written_is_said_before_any_work(host):
    host.output_folder.write_text("a file")
    renderer = FakeRenderer()
    with pytest.raises(OutputError, match="outputs"):
        make(host, GenerationRequest(), renderer=renderer)
    assert not renderer.rendered


def test_an_interrupt_keeps_the_clip_that_is_there_as_partial_and_begins_no_other(host):
    run = stopping(lambda event: isinstance(event, Progress) and event.stage is Stage.SAMPLING and event.done == 1)
    saved, renderer = make(host, GenerationRequest(seed=1, count=3), run=run)
    assert [clip.path.name for clip in saved] == ["00000-1-partial.mp4"]
    assert parse_infotext(read_metadata(saved[0].path) or "").partial == "2 of 4 steps"
    assert len(renderer.rendered) == 1


def test_a_skip_goes_on_to_the_next_clip(host):
    run = stopping(lambda event: isinstance(event, Progress) and event.done == 1, how="skip")
    saved, _ = make(host, GenerationRequest(seed=1, count=3), run=run)
    assert [clip.partial for clip in saved] == [True, False, False]


def test_the_clip_that_is_to_be_the_last_becomes_whole_and_no_other_begins(host):
    run = stopping(lambda event: isinstance(event, Progress) and event.stage is Stage.SAMPLING, how="finish_clip")
    saved, renderer = make(host, GenerationRequest(seed=1, count=3), run=run)
    assert [clip.partial for clip in saved] == [False]
    assert len(renderer.rendered) == 1


def test_a_stop_before_anything_can_be_kept_leaves_no_file(host):
    run = stopping(lambda event: isinstance(event, ClipStarted))
    with pytest.raises(Cancelled):
        make(host, GenerationRequest(steps=1), run=run, renderer=CancelledRenderer())
    assert not list(host.output_folder.iterdir())


def test_a_failing_clip_leaves_the_finished_ones(host):
    events = []
    with pytest.raises(NonFiniteError):
        make(host, GenerationRequest(seed=1, count=2), run=Run(events.append), renderer=FailsOnSecond())
    assert [path.name for path in host.output_folder.iterdir()] == ["00000-1.mp4"]
    assert [event.path.name for event in events if isinstance(event, ClipSaved)] == ["00000-1.mp4"]


def test_a_recipe_makes_the_same_request_again(host):
    request = GenerationRequest(prompt="x\ny", negative_prompt="z", seed=9, eta=0.25, steps=3, fps=12.5)
    saved, renderer = make(host, request)
    values = parse_infotext(read_metadata(saved[0].path) or "").values
    again = GenerationRequest.from_dict({**values, "model": IDENTITY.name}, choices=service.CHOICES)
    assert renderer.resolve(again) == dataclasses.replace(renderer.rendered[0])


class CancelledRenderer(FakeRenderer):
    def render(self, request, run):
        raise Cancelled


class FailsOnSecond(FakeRenderer):
    def render(self, request, run):
        if self.rendered:
            raise NonFiniteError("no picture")
        return super().render(request, run)


@pytest.mark.parametrize(("patience", "partial"), [(1e6, False), (-1.0, True)])
def test_a_stop_while_encoding_ends_it_only_where_it_would_take_long(host, monkeypatch, patience, partial):
    monkeypatch.setattr(saving, "STOP_WITHIN", patience)
    run = stopping(lambda event: isinstance(event, Progress) and event.stage is Stage.ENCODING and event.done == 2)
    saved, _ = make(host, GenerationRequest(seed=1, frames=6), run=run)
    assert saved[0].partial is partial
    assert saved[0].path.name == ("00000-1-partial.mp4" if partial else "00000-1.mp4")
    assert probe(saved[0].path).frames == (2 if partial else 6)
