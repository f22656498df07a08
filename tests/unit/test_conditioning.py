"""From what prompts say to what the network is given: weights on features, key frames between them, several texts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from t2v_core.errors import RequestError
from t2v_core.models.catalogue import DEMO
from t2v_core.models.modelscope.tokenizer import tokenize
from t2v_core.prompts.key_frames import Timing
from t2v_core.prompts.script import BLENDS, read_script
from t2v_core.rendering.conditioning import Conditioning, chunks_said, emphasized, script_of, spherical
from t2v_core.rendering.local import LocalRenderer
from t2v_core.request import GenerationRequest, ModelDefaults
from t2v_core.run import Run
from t2v_core.speed import passes

TOKENS, WIDTH = 5, 8


def conditioning(prompt, negative="", *, blend="linear", frames=16, loop=False, steps=4):
    """What these prompts give with features that are random, and always the same for the same text."""
    script = read_script(prompt, negative, Timing(frames, 8, loop), steps=steps)
    return Conditioning(script, {text: features(text) for text in script.texts()}, blend=blend)


def features(text):
    seed = sum(ord(char) * (place + 1) for place, char in enumerate(text))
    return torch.randn(1, TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed))


ALL = range(16)


def test_a_plain_prompt_is_one_text_for_all_frames_and_steps_and_always_the_same_object():
    answers = conditioning("a cat", "a dog")
    found = answers.at(0, ALL)
    assert torch.equal(found.conds[0][0], features("a cat"))
    assert torch.equal(found.uncond, features("a dog"))
    assert [weight for _, weight in found.conds] == [1.0]
    assert all(answers.at(step, frames) is found for step in range(4) for frames in (ALL, range(3, 9), [5]))


@pytest.mark.parametrize("blend", BLENDS)
def test_a_key_frame_has_its_own_text_to_the_bit(blend):
    found = conditioning("0: a\n7: b\n15: c", blend=blend).at(0, ALL).conds[0][0]
    assert found.shape == (1, 16, TOKENS, WIDTH)
    for frame, text in ((0, "a"), (7, "b"), (15, "c")):
        assert torch.equal(found[:, frame], features(text))


def test_between_key_frames_the_features_go_straight_and_before_and_after_them_they_hold():
    found = conditioning("4: a\n8: b").at(0, ALL).conds[0][0][0]
    a, b = features("a")[0], features("b")[0]
    for frame, share in ((0, 0), (4, 0), (5, 0.25), (6, 0.5), (7, 0.75), (8, 1), (15, 1)):
        assert torch.allclose(found[frame], (1 - share) * a + share * b, atol=1e-6)


def test_a_spherical_blend_keeps_the_length_that_a_straight_one_loses():
    a, b = features("a"), features("b")
    b = b / b.norm(dim=-1, keepdim=True) * a.norm(dim=-1, keepdim=True)
    half = spherical(a, b, 0.5)
    assert torch.allclose(half.norm(dim=-1), a.norm(dim=-1), rtol=1e-4)
    assert (torch.lerp(a, b, 0.5).norm(dim=-1) < a.norm(dim=-1)).all()
    to_a, to_b = (torch.nn.functional.cosine_similarity(half, each, dim=-1) for each in (a, b))
    assert torch.allclose(to_a, to_b, atol=1e-4)


@pytest.mark.parametrize("other", [1.0, -1.0])
def test_a_spherical_blend_of_what_has_no_arc_is_a_straight_one(other):
    a = features("a")
    assert torch.allclose(spherical(a, other * a, 0.25), torch.lerp(a, other * a, 0.25), atol=1e-6)


def test_a_cut_keeps_to_a_key_frame_until_the_next():
    found = conditioning("4: a\n8: b", blend="cut").at(0, ALL).conds[0][0][0]
    for frame in ALL:
        assert torch.equal(found[frame], features("b" if frame >= 8 else "a")[0])


def test_windows_without_a_change_in_them_share_one_text():
    answers = conditioning("0: a\n8: b", "n", blend="cut")
    assert answers.at(0, range(4)) is answers.at(3, range(3, 8))
    assert answers.at(0, range(4)).conds[0][0].shape == (1, TOKENS, WIDTH)
    assert answers.at(0, range(6, 10)).conds[0][0].shape == (1, 4, TOKENS, WIDTH)
    assert answers.at(0, range(6, 10)) is answers.at(1, range(6, 10))


def test_a_loop_leads_from_the_last_key_frame_back_to_the_first():
    found = conditioning("0: a\n8: b", loop=True).at(0, [12, 15, 0]).conds[0][0][0]
    a, b = features("a")[0], features("b")[0]
    for place, share in ((0, 0.5), (1, 0.125), (2, 0.0)):
        assert torch.allclose(found[place], share * b + (1 - share) * a, atol=1e-6)


def test_a_negative_prompt_has_key_frames_and_edits_of_its_own():
    answers = conditioning("a", "0: [n|m]\n15: o")
    for step, text in ((0, "n"), (1, "n"), (2, "m"), (3, "n")):
        found = answers.at(step, ALL)
        assert torch.equal(found.uncond[:, 0], features(text))
        assert torch.equal(found.uncond[:, 15], features("o"))
        assert torch.equal(found.conds[0][0], features("a"))


def test_a_text_that_comes_again_is_the_same_object():
    answers = conditioning("[a|b]", steps=6)
    found = [answers.at(step, ALL) for step in range(6)]
    assert found[0] is found[1] is found[3] is found[5]
    assert found[2] is found[4]


def test_several_texts_have_their_weights_and_these_change_from_key_frame_to_key_frame():
    found = conditioning("0: a AND b:0.5\n8: a:2 AND c:-1").at(0, [0, 4, 8])
    (first, weights), (second, others) = found.conds
    assert torch.equal(first, features("a"))
    assert weights.flatten().tolist() == [1.0, 1.5, 2.0]
    assert others.flatten().tolist() == [0.5, -0.25, -1.0]
    assert torch.allclose(second[:, 1], (features(" b") + features(" c")) / 2, atol=1e-6)


def test_few_frame_by_frame_texts_are_kept():
    answers = conditioning("0: a\n15: b")
    first = answers.at(0, range(8))
    for start in range(1, 9):
        answers.at(0, range(start, start + 8))
    assert answers.at(0, range(8)) is not first


def test_weights_multiply_a_chunks_tokens_and_leave_its_mean():
    chunk = features("x")[0]
    weights = [1.0, 1.3, 0.5, 1.0, -1.0]
    found = emphasized(chunk, weights)
    plain = torch.stack([weight * token for weight, token in zip(weights, chunk, strict=True)])
    assert found.mean().item() == pytest.approx(chunk.mean().item(), rel=1e-4)
    assert torch.allclose(found / plain, (chunk.mean() / plain.mean()).expand_as(plain), rtol=1e-4)
    assert emphasized(chunk, [1.0] * 5) is chunk


@pytest.mark.parametrize("prompt", ["", "a cat", "a cat, " * 60, "A CAT &amp; co.", "cat " * 75, "\n\n", "x" * 500])
def test_a_prompt_without_syntax_has_the_chunks_that_it_had(prompt):
    assert [chunk.tokens for chunk in chunks_said(prompt)] == tokenize(prompt)
    assert all(set(chunk.weights) == {1.0} for chunk in chunks_said(prompt))


def test_each_token_has_its_phrases_weight_and_brackets_are_no_tokens():
    (chunk,) = chunks_said("a (red:1.5) ball, [far]")
    assert chunk.tokens == tokenize("a red ball, far")[0]
    assert [round(weight, 3) for weight in chunk.weights[:8]] == [1, 1, 1.5, 1, 1, 0.909, 1, 1]


@pytest.mark.parametrize(
    ("prompt", "chunks"),
    [
        ("a BREAK b", ["a", "b"]),
        ("BREAK a", ["", "a"]),
        ("a BREAK", ["a"]),
        ("a BREAK BREAK b", ["a", "", "b"]),
        ("BREAK", [""]),
        ("cat " * 80 + "BREAK b", ["cat " * 75, "cat " * 5, "b"]),
        ("cat " * 75 + "BREAK b", ["cat " * 75, "b"]),
    ],
)
def test_break_begins_a_new_chunk(prompt, chunks):
    assert [chunk.tokens for chunk in chunks_said(prompt)] == [tokenize(text)[0] for text in chunks]


REQUEST = GenerationRequest(model=DEMO, seed=3, steps=2, frames=4, width=64, height=64, precision="fp32")


@pytest.fixture(scope="module")
def renderer(tmp_path_factory):
    from t2v_core.hosts.standalone import StandaloneHost

    return LocalRenderer(StandaloneHost(device_name="cpu", output=tmp_path_factory.mktemp("outputs")))


def make(renderer, prompt, **changes):
    request = dataclasses.replace(REQUEST, prompt=prompt, **changes)
    return renderer.render(renderer.resolve(request), Run()).frames[:]


@pytest.mark.parametrize(
    ("prompt", "plain"),
    [
        ("(a red ball:1.0)", "a red ball"),
        ("[a red ball|a red ball]", "a red ball"),
        ("[a red ball:a blue ball:0]", "a blue ball"),
        ("[a red ball:a blue ball:2]", "a red ball"),
        ("0: a red ball\n3: a red ball", "a red ball"),
        ("2: a red ball", "a red ball"),
        ("a red\n0: ball", "a red, ball"),
        ("a red ball:1", "a red ball"),
        ("a red ball AND a red ball:0", "a red ball"),
    ],
)
def test_what_says_the_same_shows_the_same(renderer, prompt, plain):
    found, expected = make(renderer, prompt).astype(int), make(renderer, plain).astype(int)
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(
    "prompt",
    ["a (red:1.5) ball", "a red ball AND a blue box", "[a red ball|a blue box]", "[a red ball:a blue box:1]",
     "0: a red ball\n3: a blue box", "a red BREAK ball", "a red ball:0.5"],
)  # fmt: skip
def test_syntax_shows(renderer, prompt):
    found = make(renderer, prompt, steps=3).astype(int)
    assert np.abs(found - make(renderer, "a red ball", steps=3).astype(int)).max() > 8


def test_split_texts_show_the_same_as_those_in_one_batch(renderer):
    prompt = "0: a red ball AND a box:0.5\n3: a blue ball"
    one, split = (make(renderer, prompt, split_guidance=split).astype(int) for split in (False, True))
    assert np.abs(one - split).max() <= 2


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_what_is_wrong_with_a_prompt_is_said_before_anything_runs(renderer, field):
    with pytest.raises(RequestError) as caught:
        renderer.resolve(dataclasses.replace(REQUEST, **{field: "0: a\n4: b"}))
    assert [problem.field for problem in caught.value.problems] == [field]


def test_the_forecast_counts_every_text_and_the_longest_one(renderer):
    plain, several, long = (
        renderer.forecast(dataclasses.replace(REQUEST, prompt=prompt))
        for prompt in ("a", "a AND b AND c AND d AND e AND f", "0: a\n3: " + "cat " * 300)
    )
    assert plain.peak < several.peak
    assert plain.peak < long.peak


def test_the_forecast_counts_a_pass_for_every_text():
    alone, several = (
        passes(10, is_guided=True, reuse_features=1, guidance_until=until, conds=conds)
        for until, conds in ((1.0, 1), (0.5, 3))
    )
    assert (alone, several) == (20, 35)


def test_weights_that_are_whole_at_scale_1_need_no_negative_prompt():
    request = REQUEST.resolve(ModelDefaults())
    wholes = [
        script_of(dataclasses.replace(request, prompt=prompt)).prompt.is_whole(scale)
        for prompt, scale in (("a", 1), ("a", 9), ("a:0.3 AND b:0.7", 1), ("a:0.5", 2), ("0: a\n3: a:2", 1))
    ]
    assert wholes == [True, False, True, True, False]
