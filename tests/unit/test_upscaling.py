"""Larger frames: by Lanczos anywhere, by the host's upscalers where there are some, and never at the clip's cost."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from t2v_core import service
from t2v_core.errors import RequestError
from t2v_core.finishing import finish
from t2v_core.postprocess.upscale import find_upscaler, lanczos, names, upscale, upscaled_size
from t2v_core.rendering.fake import IDENTITY, FakeRenderer
from t2v_core.request import GenerationRequest
from t2v_core.run import Notice, Progress, Run, Stage
from t2v_core.video import Video


def doubled(frame, width, height):
    return frame.repeat(2, axis=0).repeat(2, axis=1)


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
    footage = finish(wants, upscalers={"Twice": doubled}, run=Run(events.append), folder=tmp_path)
    assert footage.frames.shape == (5, 48, 72, 3)
    assert np.array_equal(footage.frames[2:3][0], lanczos(doubled(wants.frames[2:3][0], 0, 0), 72, 48))
    assert [event.done for event in events if isinstance(event, Progress) and event.stage is Stage.UPSCALING][-1] == 5


def test_an_upscaler_that_fails_costs_a_notice_and_not_the_clip(tmp_path):
    events = []

    def fails(frame, width, height):
        raise RuntimeError("no such file: R-ESRGAN.pth")

    wants = video(upscale=2.0, upscaler="Broken")
    footage = finish(wants, upscalers={"Broken": fails}, run=Run(events.append), folder=tmp_path)
    assert np.array_equal(footage.frames[:1][0], lanczos(wants.frames[:1][0], 48, 32))
    (notice,) = [event for event in events if isinstance(event, Notice)]
    assert "R-ESRGAN.pth" in notice.message
    assert "lanczos" in notice.message


def test_a_stop_leaves_the_rest_to_lanczos(tmp_path):
    calls, events = [], []

    def slow(frame, width, height):
        calls.append(1)
        if len(calls) == 2:
            run.interrupt()
        return doubled(frame, width, height)

    run, wants = Run(events.append), video(upscale=2.0, upscaler="Slow")
    footage = finish(wants, upscalers={"Slow": slow}, run=run, folder=tmp_path)
    assert len(footage.frames) == 5
    assert len(calls) == 2
    assert np.array_equal(footage.frames[4:][0], lanczos(wants.frames[4:][0], 48, 32))
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
    footage = finish(wants, upscalers={"Slow": slow}, run=Run(), folder=tmp_path)
    assert footage.frames[:].shape == (30, 32, 48, 3)
    assert len(calls) == 5


def test_without_any_wish_the_renderers_own_frames_go_on(tmp_path):
    plain = video()
    footage = finish(plain, upscalers={}, run=Run(), folder=tmp_path)
    assert footage.frames is plain.frames
    assert footage.fps == Fraction(8)
