"""Clips from pictures, videos and masks, of any length, with the demo model: what is given is there, and it shows."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from benchmarks.demo_model.judge import judge
from t2v_core.hosts.standalone import StandaloneHost
from t2v_core.models.catalogue import DEMO
from t2v_core.rendering import local
from t2v_core.rendering.given import NOTHING, Anchor, Given
from t2v_core.rendering.local import LocalRenderer
from t2v_core.request import GenerationRequest
from t2v_core.run import PassStarted, Progress, Run, Stage

PROMPT = "a red square moves left on a black background"
OTHER = "a blue circle moves down on a white background"
STEPS = 12


@pytest.fixture(scope="module")
def make():
    """Make a clip with the demo model from what is given, (f, h, w, 3) uint8."""
    renderer = LocalRenderer(StandaloneHost(device_name="cpu"))

    def call(given=NOTHING, *, run=None, **fields):
        request = renderer.resolve(GenerationRequest(**{"model": DEMO, "prompt": PROMPT, "steps": STEPS} | fields))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(local, "gather", lambda *_, **__: given)
            return renderer.render(request, run or Run()).frames[:]

    return call


@pytest.fixture(scope="module")
def clip(make):
    return make(seed=11)


@pytest.fixture(scope="module")
def reconstructed(make, clip):
    """What the autoencoder makes of the clip."""
    return make(Given(clip=clip), strength=0.0)


def psnr(first, second):
    error = ((first.astype(float) - second.astype(float)) ** 2).mean()
    return 10 * np.log10(255**2 / max(error, 1e-9))


def changes(frames, *, closed=False):
    """How much each frame differs from the one before."""
    frames = np.concatenate([frames, frames[:1]]) if closed else frames
    return np.abs(np.diff(frames.astype(float), axis=0)).mean(axis=(1, 2, 3))


@pytest.mark.parametrize("places", [(0,), (-1,), (0, -1), (3,)], ids=["first", "last", "both", "another"])
def test_pictures_at_some_frames_come_back_and_the_rest_follows_the_prompt(make, clip, reconstructed, places):
    numbers = [place % len(clip) for place in places]
    found = make(Given(anchors=tuple(Anchor(number, clip[number]) for number in numbers)), seed=12)
    for number in numbers:
        assert psnr(found[number], reconstructed[number]) > 30
    verdict = judge(found)
    assert (verdict.colour, verdict.ground, verdict.direction) == ("red", "black", "left")
    assert not np.array_equal(found, make(seed=12))


def test_a_weaker_anchor_is_a_looser_one(make, clip, reconstructed):
    given = [Given(anchors=(Anchor(0, clip[0], strength),)) for strength in (1.0, 0.6, 0.2)]
    nearness = [psnr(make(each, prompt=OTHER, seed=12)[0], reconstructed[0]) for each in given]
    assert nearness == sorted(nearness, reverse=True)
    assert nearness[-1] < 15


def test_an_anchor_that_fades_holds_its_neighbours_a_while(make, clip):
    given = Given(anchors=(Anchor(0, clip[0]),))
    alone, fading = (make(given, prompt=OTHER, seed=12, anchor_fade=fade) for fade in (0, 4))
    assert psnr(fading[1], clip[0]) > psnr(alone[1], clip[0])


def test_strength_goes_from_the_source_itself_to_the_prompt_alone(make, clip, reconstructed):
    strengths = (0.0, 0.15, 0.3, 0.5, 0.75, 1.0)
    found = [make(Given(clip=clip), prompt=OTHER, seed=5, strength=strength) for strength in strengths]
    assert psnr(found[0], clip) > 30
    assert np.array_equal(found[-1], make(prompt=OTHER, seed=5))
    nearness = [psnr(each, clip) for each in found]
    # Where nothing of the source is left, chance decides.
    assert all(before > after - 0.5 for before, after in itertools.pairwise(nearness))
    assert judge(found[-1]).colour == "blue"


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler a", "UniPC", "DDIM"])
def test_steps_that_the_strength_leaves_out_are_not_done(make, clip, sampler):
    steps = []
    run = Run(lambda event: steps.append(event) if isinstance(event, Progress) else None)
    make(Given(clip=clip), sampler=sampler, strength=0.25, run=run)
    sampling = [event for event in steps if event.stage is Stage.SAMPLING]
    assert (sampling[-1].done, sampling[-1].total) == (3, 3)
    source = [event for event in steps if event.stage is Stage.SOURCE]
    assert (source[-1].done, source[-1].total, source[-1].unit) == (8, 8, "frame")


@pytest.mark.parametrize("frames", [1, 8])
def test_outside_a_mask_the_source_is_exact_and_inside_it_changes(make, clip, frames):
    mask = np.zeros((frames, *clip.shape[1:3]), np.float32)
    mask[:, 20:50, 8:40] = 1
    found = make(Given(clip=clip, mask=mask), prompt=OTHER, strength=1.0, seed=5)
    keeps = np.broadcast_to(mask == 0, clip.shape[:3])
    assert np.array_equal(found[keeps], clip[keeps])
    assert np.abs(found[~keeps].astype(int) - clip[~keeps]).mean() > 5


@pytest.mark.slow
def test_a_long_clip_has_no_seams_where_its_windows_meet(make):
    found = changes(make(frames=40, window=8, seed=3))
    border = found[[6 * window - 1 for window in range(1, 6)]]
    assert border.max() < found.max()
    assert abs(border.mean() - found.mean()) < found.std()


@pytest.mark.parametrize("frames", [8, pytest.param(20, marks=pytest.mark.slow)])
def test_a_loop_goes_on_from_its_last_frame_to_its_first(make, frames):
    found = changes(make(frames=frames, loop=True, seed=3), closed=True)
    assert found[-1] < found[:-1].mean() + 3 * found[:-1].std()
    plain = changes(make(frames=frames, seed=3), closed=True)
    assert found[-1] < plain[-1] / 2


def test_the_network_never_sees_more_than_a_window(make, monkeypatch):
    from t2v_core.rendering.local_model import LocalModel

    seen = set()
    predictor = LocalModel.predictor

    def spied(self, *args, **rest):
        inner = predictor(self, *args, **rest)

        class Spy:
            def __enter__(self):
                predict = inner.__enter__()
                return lambda latents, *more: seen.add(latents.shape[2:]) or predict(latents, *more)

            def __exit__(self, *error):
                return inner.__exit__(*error)

        return Spy()

    monkeypatch.setattr(LocalModel, "predictor", spied)
    make(frames=30, window=8, steps=3)
    make(width=96, tile=64, steps=3)
    assert seen == {(8, 8, 8)}


@pytest.mark.parametrize(("frames", "doublings"), [(8, 1), (8, 3), (13, 2), (2, 3), (1, 1)])
def test_key_frames_first_and_then_those_between_show_the_same(make, frames, doublings):
    found = make(frames=frames, fill_in=doublings, seed=4)
    assert found.shape == (frames, 64, 64, 3)
    verdict = judge(found[:8])
    assert (verdict.colour, verdict.ground) == ("red", "black") or frames < 3


def test_a_stop_between_key_frames_and_the_rest_shows_each_for_its_neighbours(make):
    def stop(event):
        if isinstance(event, Progress) and event.stage is Stage.SAMPLING and event.done == STEPS:
            run.interrupt()

    run = Run(stop)
    found = make(frames=8, fill_in=2, run=run, seed=4)
    assert len(found) == 8
    assert np.array_equal(found[1], found[0])
    assert not np.array_equal(found[4], found[0])


@pytest.mark.parametrize("tile", [0, 64, None])
def test_a_second_pass_makes_the_clip_larger(make, tile):
    events = []
    found = make(refine=1.5, tile=tile, seed=3, run=Run(events.append))
    assert found.shape == (8, 96, 96, 3)
    assert judge(found[:, ::3, ::3].repeat(2, 1).repeat(2, 2)).colour == "red"
    assert [event for event in events if isinstance(event, PassStarted)] == [PassStarted(0, 2), PassStarted(1, 2)]
    assert any(isinstance(event, Progress) and event.stage is Stage.UPSCALING for event in events)


def test_a_stop_in_the_second_pass_keeps_the_first_ones_clip(make):
    def stop(event):
        if isinstance(event, Progress) and event.stage is Stage.UPSCALING:
            run.interrupt()

    run = Run(stop)
    assert np.array_equal(make(refine=2.0, seed=3, run=run), make(seed=3))


def test_windows_that_cannot_overlap_are_refused_by_name():
    with pytest.raises(local.Txt2VideoError, match="can't overlap by 8"):
        LocalRenderer(StandaloneHost(device_name="cpu")).resolve(
            dataclasses.replace(GenerationRequest(model=DEMO), window=8, window_overlap=8)
        )
