"""Frames in between: right in time, true to the motion, exact where the source has one, and never across a cut."""

from __future__ import annotations

import itertools
import sys
from fractions import Fraction

import numpy as np
import pytest

from benchmarks.demo_model.clips import SCENES as ALL_SCENES
from benchmarks.demo_model.clips import Canvas, Scene, draw
from t2v_core.errors import Txt2VideoError
from t2v_core.postprocess import Footage, Means, process
from t2v_core.postprocess import scene_cuts as cuts
from t2v_core.request import GenerationRequest

SCENES = (
    Scene("red", "ball", "left", "black"),
    Scene("yellow", "box", "down", "white"),
    Scene("blue", "triangle", "right", "gray"),
    Scene("green", "ring", "up", "gray"),  # nearly as bright as its ground
)


def interpolated(frames, to, *, fps=8, is_loop=False, method="motion", **wants):
    request = GenerationRequest(output_fps=float(to), interpolation=method, **wants)
    return process(Footage(frames, Fraction(fps), is_loop), request, Means()).frames


def clip(scene, frames=15, side=64, seed=0):
    return draw(scene, Canvas(frames=frames, side=side), np.random.default_rng(seed))


def psnr(frames, others):
    error = float(np.mean((frames.astype(float) - others) ** 2))
    return 10 * np.log10(255**2 / max(error, 1e-9))


@pytest.mark.parametrize(
    ("count", "fps", "to", "expected"),
    [(16, 8, 30, 60), (24, 8, 24, 72), (5, 10, 4, 2), (1, 8, 30, 4), (2, 1, 240, 480)],
)
def test_the_clip_lasts_as_long_as_before(count, fps, to, expected):
    assert len(interpolated(np.zeros((count, 8, 8, 3), np.uint8), to, fps=fps)) == expected


@pytest.mark.parametrize("method", ["motion", "blend", "repeat"])
def test_frames_of_the_source_stay_bit_for_bit(method):
    source = clip(SCENES[0], 8)
    made = interpolated(source, 32, method=method)[:]
    assert np.array_equal(made[::4], source)
    assert np.array_equal(made[-3:], source[[-1] * 3]), "the last one stays until the end"


def test_the_same_rate_is_the_very_same_frames():
    source = clip(SCENES[0], 4)
    assert interpolated(source, 8) is source


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: f"{scene.colour} {scene.shape}")
def test_motion_comes_nearer_to_the_truth_than_blending_and_repeating(scene):
    truth = clip(scene)
    errors = {
        method: psnr(interpolated(truth[::2], 16, method=method)[1:-2:2], truth[1::2])
        for method in ("motion", "blend", "repeat")
    }
    assert errors["motion"] > errors["blend"] + 6
    assert errors["motion"] > errors["repeat"] + 6


def test_a_loop_goes_on_to_its_first_frame():
    source = clip(SCENES[0], 8)
    made = interpolated(np.concatenate([source, source[-2:0:-1]]), 16, is_loop=True)[:]
    assert len(made) == 28
    assert not np.array_equal(made[-1], made[-2])
    assert psnr(made[-1:], made[1:2]) > 30  # the way back to the first is the way from it, mirrored


def test_ping_pong_and_more_frames_turn_without_a_pause():
    source = clip(SCENES[0], 8)
    made = interpolated(source, 16, ping_pong=True)[:]
    assert len(made) == 28
    changes = [np.abs(one.astype(int) - other).mean() for one, other in zip(made, np.roll(made, -1, 0), strict=True)]
    assert min(changes) > 0.3 * np.median(changes)


@pytest.mark.parametrize("method", ["motion", "blend"])
@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 2), (2, 3), (0, 3)])
def test_nothing_is_mixed_across_a_cut(method, one, other):
    first, second = clip(SCENES[one], 6), clip(SCENES[other], 6)
    made = interpolated(np.concatenate([first, second]), 32, method=method)[:]
    for frame in made[20:24]:  # the last frame of the first scene until the second begins
        assert np.array_equal(frame, first[-1])
    assert np.array_equal(made[24], second[0])
    assert not np.array_equal(made[18], first[4]), "beside the cut there are frames in between"
    assert not np.array_equal(made[26], second[0])


def test_scenes_of_one_frame_and_cuts_in_a_row_stay_apart():
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 255, (6, 1, 1, 3), dtype=np.uint8)
    slides = np.broadcast_to(colours, (6, 32, 32, 3)).copy()
    still = np.concatenate([slides[:1]] * 3 + [slides[1:2]] + [slides[2:3]] * 3)
    made = interpolated(still, 32)[:]
    assert {tuple(frame[0, 0]) for frame in made} == {tuple(frame[0, 0]) for frame in still}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: f"{scene.colour} {scene.shape}")
def test_motion_alone_is_no_cut_not_even_when_it_begins_at_once(scene):
    moving = clip(scene, 6)
    source = np.concatenate([moving[:1]] * 4 + [moving[1:]])
    made = interpolated(source, 16)[:]
    for index in range(3, 8):
        between = made[2 * index + 1]
        assert not np.array_equal(between, source[index])
        assert not np.array_equal(between, source[index + 1])


def test_cuts_between_any_two_scenes_are_found_and_no_others():
    rng = np.random.default_rng(1)
    found = wrong = 0
    for _ in range(12):
        one, other = (
            draw(ALL_SCENES[index], Canvas(3, 64), rng) for index in rng.choice(len(ALL_SCENES), 2, replace=False)
        )
        source = np.concatenate([one[:1], one, other, other[-1:]])
        held = [np.array_equal(*pair) for pair in zip(interpolated(source, 16)[1::2], source, strict=True)]
        found += held[3]
        wrong += sum(held[1:6]) - held[3]
    assert found >= 11
    assert wrong == 0


def test_a_pan_over_a_busy_picture_is_motion():
    rng = np.random.default_rng(3)
    wide = np.kron(rng.integers(0, 255, (12, 40, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    truth = np.stack([wide[:, 3 * index : 3 * index + 128] for index in range(17)])
    made = interpolated(truth[::2], 16)[1:-1:2]
    assert psnr(made[..., 12:-12, :], truth[1::2][..., 12:-12, :]) > 25


def test_a_fade_is_no_cut():
    first, second = clip(SCENES[0], 1)[0].astype(float), clip(SCENES[1], 1)[0].astype(float)
    fade = np.stack([first + (second - first) * share for share in np.linspace(0, 1, 9)]).astype(np.uint8)
    changes = [cuts.change(one, other) for one, other in itertools.pairwise(fade)]
    assert not any(
        cuts.is_cut(
            changes[index], changes[max(0, index - 1) : index] + changes[index + 1 : index + 2], unexplained=lambda: 1e9
        )
        for index in range(len(changes))
    )


@pytest.mark.parametrize("size", [(8, 8), (2, 2), (7, 301), (50, 3), (1, 40), (300, 2)])
def test_any_size_will_do(size):
    rng = np.random.default_rng(1)
    source = rng.integers(0, 255, (4, *size, 3), dtype=np.uint8)
    assert interpolated(source, 20)[:].shape == (10, *size, 3)


def test_the_same_on_any_number_of_threads():
    import cv2

    source, before = clip(SCENES[2], 5, side=96), cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = interpolated(source, 30)[:]
        cv2.setNumThreads(4)
        together = interpolated(source, 30)[:]
        assert cv2.getNumThreads() == 4, "the setting is the host's"
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(alone, together)


def test_without_opencv_the_remedy_is_named_and_the_other_methods_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.delitem(sys.modules, "t2v_core.postprocess.optical_flow", raising=False)
    source = clip(SCENES[0], 3)
    with pytest.raises(Txt2VideoError, match="pip install opencv-python-headless"):
        interpolated(source, 30)
    assert len(interpolated(source, 30, method="blend")[:]) == 11
