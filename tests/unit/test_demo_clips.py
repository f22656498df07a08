from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from benchmarks.demo_model.captions import caption, draw_caption, draw_scene, unseen
from benchmarks.demo_model.clips import COLOURS, DIRECTIONS, GROUNDS, SCENES, SHAPES, Canvas, Scene, draw
from benchmarks.demo_model.judge import ATTRIBUTES, Verdict, judge
from t2v_core.models.modelscope.tokenizer import count_tokens


def clip_of(scene: Scene, *, seed: int = 0, canvas: Canvas = Canvas(frames=8, side=64)) -> np.ndarray:  # noqa: B008
    return draw(scene, canvas, np.random.default_rng(seed))


@pytest.mark.parametrize("canvas", [Canvas(frames=8, side=64), Canvas(frames=16, side=128)])
def test_the_judge_is_right_on_99_of_100_drawn_clips(canvas):
    rng = np.random.default_rng(3)
    scenes = [SCENES[index] for index in rng.permutation(len(SCENES))[:150]]
    right = Counter()
    for scene in scenes:
        right.update(name for name, agrees in judge(draw(scene, canvas, rng)).agrees(scene).items() if agrees)
    assert all(right[name] >= 0.99 * len(scenes) for name in ATTRIBUTES), right


def test_the_judge_sees_no_shape_on_an_empty_ground():
    frames = np.full((8, 64, 64, 3), GROUNDS["pink"], dtype=np.uint8)
    assert judge(frames) == Verdict(ground="pink")


def test_the_judge_sees_no_direction_in_a_still_clip():
    clip = clip_of(Scene("red", "ball", "left", "black"))
    assert judge(np.repeat(clip[:1], 8, axis=0)).direction is None


def test_the_judge_sees_the_opposite_direction_in_a_clip_played_backwards():
    clip = clip_of(Scene("red", "ball", "left", "black"))
    assert judge(clip[::-1]).direction == "right"


def test_the_judge_refuses_a_smear_as_a_shape():
    clip = clip_of(Scene("red", "ball", "right", "black"))
    smear = np.where(np.tril(np.ones((64, 64), dtype=bool))[..., None], clip.max(axis=2, keepdims=True), clip)
    assert judge(smear).shape != "ball"


def test_the_judge_takes_a_strange_colour_for_none():
    clip = clip_of(Scene("red", "ball", "left", "black"))
    assert (
        judge(clip // 4 * np.array([0, 1, 3], dtype=np.uint8) + np.array([0, 140, 120], dtype=np.uint8)).ground is None
    )


@pytest.mark.parametrize("scene", SCENES[::7])
def test_a_drawn_shape_stays_whole_inside_its_picture(scene):
    clip = clip_of(scene, seed=SCENES.index(scene)).astype(int)
    edges = np.concatenate([clip[:, 0], clip[:, -1], clip[:, :, 0], clip[:, :, -1]], axis=1)
    assert (edges == np.array(GROUNDS[scene.ground])).all()
    areas = (clip != np.array(GROUNDS[scene.ground])).any(axis=-1).sum(axis=(1, 2))
    assert areas.min() > 0.9 * areas.max()


def test_a_shape_never_has_its_grounds_colour():
    assert all(scene.colour != scene.ground for scene in SCENES)
    assert len(SCENES) == (len(COLOURS) * len(GROUNDS) - 1) * len(SHAPES) * len(DIRECTIONS)


def test_a_fifth_of_the_combinations_is_held_out_and_each_value_is_trained_in_every_role():
    combinations = {(scene.colour, scene.shape, scene.direction): scene.held_out for scene in SCENES}
    assert 0.18 <= sum(combinations.values()) / len(combinations) <= 0.22
    trained = [key for key, held_out in combinations.items() if not held_out]
    for first, second, pairs in ((0, 1, 24), (0, 2, 24), (1, 2, 16)):
        assert len({(key[first], key[second]) for key in trained}) == pairs


def test_captions_name_all_that_a_scene_has_and_fit_one_chunk():
    rng = np.random.default_rng(0)
    texts = {caption(SCENES[0], rng) for _ in range(300)}
    assert len(texts) > 200
    assert all(count_tokens(text) <= 75 for text in texts)


def test_training_and_scoring_never_share_a_caption():
    rng = np.random.default_rng(0)
    for for_training in (True, False):
        texts = [draw_caption(draw_scene(rng, held_out=False), rng, for_training=for_training) for _ in range(50)]
        assert {unseen(text) for text in texts} == {not for_training}


@pytest.mark.parametrize("held_out", [True, False])
def test_scenes_are_drawn_from_the_side_that_was_asked(held_out):
    rng = np.random.default_rng(0)
    assert {draw_scene(rng, held_out=held_out).held_out for _ in range(50)} == {held_out}
