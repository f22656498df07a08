"""Larger frames: by Lanczos anywhere, by the host's upscalers where there are some, and never at the clip's cost."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from t2v_core import service
from t2v_core.errors import Cancelled, RequestError
from t2v_core.finishing import finish
from t2v_core.postprocess.upscale import find_upscaler, lanczos, names, upscale, upscaled_size
from t2v_core.rendering.fake import IDENTITY, FakeRenderer
from t2v_core.rendering.refining import enlarged
from t2v_core.request import GenerationRequest
from t2v_core.run import Notice, Progress, Run, Stage
from t2v_core.video import Video


def doubled(frame, width, height):
    return frame.repeat(2, axis=0).repeat(2, axis=1)


SECOND = GenerationRequest(width=40, height=32)
"""What a second pass asks for, other than twice the size of a `video`."""


def video(**wants):
    frames = np.random.default_rng(0).integers(0, 255, (5, 16, 24, 3), dtype=np.uint8)
    return Video(frames, GenerationRequest(fps=8.0, **wants), IDENTITY, steps_done=1)


@pytest.mark.parametrize(
    ("size", "factor", "expected"),
    [((64, 48), 1.0, (64, 48)), ((64, 48), 2.0, (128, 96)), ((40, 24), 1.25, (50, 30)), ((72, 40), 1.3, (94, 52))],
)
def test_sizes_are_even(size, factor, expected):
    assert upscaled_size(*size, factor=factor) == expected


def test_lanczos_keeps_a_smooth_picture_and_its_mean():
    slope = np.tile(np.linspace(20, 220, 40).astype(np.uint8)[None, :, None], (30, 1, 3))
    larger = lanczos(slope, 120, 90)
    assert larger.shape == (90, 120, 3)
    assert abs(float(larger.mean()) - float(slope.mean())) < 0.6
    assert (np.diff(larger[45, 6:-6, 0].astype(int)) >= 0).all()


def test_chunks_have_every_frame_once_at_the_size_that_is_asked():
    frames = np.random.default_rng(0).integers(0, 255, (9, 16, 24, 3), dtype=np.uint8)
    made = np.concatenate(list(upscale(frames, width=1280, height=720)))
    assert made.shape == (9, 720, 1280, 3)
    assert np.array_equal(made[4], lanczos(frames[4], 1280, 720))


def test_a_hosts_upscaler_is_found_by_its_name_in_any_case():
    hosts = {"R-ESRGAN 4x+": doubled, "Nearest": doubled}
    assert find_upscaler("r-esrgan 4X+", hosts) is doubled
    assert find_upscaler("Lanczos", hosts) is lanczos
    assert names(hosts) == ("lanczos", "R-ESRGAN 4x+", "Nearest")


@pytest.mark.parametrize(("hosts", "said"), [({}, "txt2video tab"), ({"R-ESRGAN 4x+": doubled}, "R-ESRGAN 4x+")])
def test_an_upscaler_that_is_not_there_is_named_with_the_remedy(hosts, said):
    with pytest.raises(RequestError, match="upscaler 'R-ESRGAN 4x'") as caught:
        find_upscaler("R-ESRGAN 4x", hosts)
    assert said in str(caught.value)


def test_another_size_than_asked_is_brought_to_it_and_progress_is_told(tmp_path):
    events = []
    wants = video(upscale=3.0, upscaler="Twice")
    _, footage = finish(wants, upscalers={"Twice": doubled}, run=Run(events.append), folder=tmp_path)
    assert footage.frames.shape == (5, 48, 72, 3)
    assert np.array_equal(footage.frames[2:3][0], lanczos(doubled(wants.frames[2:3][0], 0, 0), 72, 48))
    assert [event.done for event in events if isinstance(event, Progress) and event.stage is Stage.UPSCALING][-1] == 5


def broken(frame, width, height):
    raise RuntimeError("no such file: R-ESRGAN.pth")


def grey(frame, width, height):
    return doubled(frame, width, height)[..., 0]


def floating(frame, width, height):
    return doubled(frame, width, height) / 255


BAD = {"Broken": broken, "Grey": grey, "Floating": floating, "Silent": lambda *_: None}
"""Upscalers that don't do what they should."""


@pytest.mark.parametrize("name", BAD)
def test_an_upscaler_that_fails_costs_a_notice_and_not_the_clip(tmp_path, name):
    events = []
    finished, footage = finish(
        video(upscale=2.0, upscaler=name), upscalers=BAD, run=Run(events.append), folder=tmp_path
    )
    assert np.array_equal(footage.frames[:1][0], lanczos(finished.frames[:1][0], 48, 32))
    (notice,) = [event for event in events if isinstance(event, Notice)]
    said = "no such file: R-ESRGAN.pth" if name == "Broken" else "it gave no RGB picture"
    assert notice.message == f"The upscaler {name} failed ({said}): lanczos makes the rest of the frames larger."
    assert finished.notes == {"Upscaled by": "lanczos"}


def failing_at(number):
    """An upscaler that fails in its call of that number."""
    calls = []

    def upscaler(frame, width, height):
        calls.append(1)
        if len(calls) == number:
            raise MemoryError
        return doubled(frame, width, height)

    return upscaler


def test_the_recipe_says_from_which_frame_on_lanczos_took_over(tmp_path):
    upscalers = {"Weak": failing_at(3)}
    finished, footage = finish(video(upscale=2.0, upscaler="weak"), upscalers=upscalers, run=Run(), folder=tmp_path)
    assert finished.notes == {"Upscaled by": "Weak, from frame 3 on lanczos"}
    assert np.array_equal(footage.frames[1:2][0], doubled(finished.frames[1:2][0], 48, 32))
    assert np.array_equal(footage.frames[2:3][0], lanczos(finished.frames[2:3][0], 48, 32))


def test_an_upscaler_that_does_as_asked_needs_no_note(tmp_path):
    finished, _ = finish(
        video(upscale=2.0, upscaler="Twice"), upscalers={"Twice": doubled, **BAD}, run=Run(), folder=tmp_path
    )
    assert finished.notes == {}


@pytest.mark.parametrize("name", BAD)
def test_before_a_second_pass_it_costs_a_notice_as_well(tmp_path, name):
    events, first = [], video(upscaler=name)
    larger = enlarged(first, SECOND.with_field("upscaler", name), Run(events.append), upscalers=BAD, folder=tmp_path)
    assert np.array_equal(larger.frames[4:][0], lanczos(first.frames[4:][0], 40, 32))
    (notice,) = [event.message for event in events if isinstance(event, Notice)]
    assert notice.startswith(f"The upscaler {name} failed")
    assert larger.notes == {"Refine upscaled by": "lanczos"}


def test_before_a_second_pass_another_size_is_brought_to_the_one_that_is_asked(tmp_path):
    first, request = video(), SECOND.with_field("upscaler", "Twice")
    larger = enlarged(first, request, Run(), upscalers={"Twice": doubled}, folder=tmp_path)
    assert np.array_equal(larger.frames[:1][0], lanczos(doubled(first.frames[:1][0], 0, 0), 40, 32))
    assert larger.notes == {}


@pytest.mark.parametrize("fails_when_stopped", [False, True])
def test_a_stop_before_a_second_pass_is_a_stop_and_no_failure(tmp_path, fails_when_stopped):
    calls, events = [], []

    def slow(frame, width, height):
        calls.append(1)
        run.interrupt()
        return None if fails_when_stopped else doubled(frame, width, height)

    run = Run(events.append)
    with pytest.raises(Cancelled):
        enlarged(video(), SECOND.with_field("upscaler", "Slow"), run, upscalers={"Slow": slow}, folder=tmp_path)
    assert len(calls) == 1
    assert not any(isinstance(event, Notice) for event in events)


def test_a_stop_leaves_the_rest_to_lanczos(tmp_path):
    calls, events = [], []

    def slow(frame, width, height):
        calls.append(1)
        if len(calls) == 2:
            run.interrupt()
        return doubled(frame, width, height)

    run, wants = Run(events.append), video(upscale=2.0, upscaler="Slow")
    finished, footage = finish(wants, upscalers={"Slow": slow}, run=run, folder=tmp_path)
    assert len(footage.frames) == 5
    assert len(calls) == 2
    assert np.array_equal(footage.frames[4:][0], lanczos(wants.frames[4:][0], 48, 32))
    assert finished.notes == {"Upscaled by": "Slow, from frame 3 on lanczos"}
    assert [event.message for event in events if isinstance(event, Notice)] == [
        "You stopped before Slow was through: lanczos makes the rest of the frames larger."
    ]


def test_an_upscaler_that_nobody_needs_may_be_anothers(host):
    service.generate(
        [GenerationRequest(seed=1, upscaler="R-ESRGAN 4x+")], renderer=FakeRenderer(), host=host, run=Run()
    )
    with pytest.raises(RequestError, match="R-ESRGAN"):
        service.generate(
            [GenerationRequest(seed=1, upscale=2.0, upscaler="R-ESRGAN 4x+")],
            renderer=FakeRenderer(),
            host=host,
            run=Run(),
        )


def test_a_slow_upscaler_does_each_frame_once_however_often_it_is_shown(tmp_path):
    calls = []

    def slow(frame, width, height):
        calls.append(1)
        return lanczos(frame, width, height)

    wants = video(upscale=2.0, upscaler="Slow", ping_pong=True, output_fps=30.0)
    _, footage = finish(wants, upscalers={"Slow": slow}, run=Run(), folder=tmp_path)
    assert footage.frames[:].shape == (30, 32, 48, 3)
    assert len(calls) == 5


def test_without_any_wish_the_renderers_own_frames_go_on(tmp_path):
    plain = video()
    _, footage = finish(plain, upscalers={}, run=Run(), folder=tmp_path)
    assert footage.frames is plain.frames
    assert footage.fps == Fraction(8)
