"""Speeds fill what a request leaves open, and the demo model's runs then take fewer and smaller calls."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from t2v_core.errors import RequestError
from t2v_core.hosts.standalone import StandaloneHost
from t2v_core.models.modelscope.attention import texts_in
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.rendering.local import LocalRenderer
from t2v_core.request import FIELDS, GenerationRequest, ModelDefaults
from t2v_core.run import Run
from t2v_core.speed import EXACT, FEWEST_STEPS_TO_REUSE, SHORTCUTS, SPEEDS, passes

STEPS = 12
ASKED = GenerationRequest(prompt="a red ball moving left on a black background", model="demo", seed=1, steps=STEPS)


def filled(**values):
    resolved = GenerationRequest(**values).resolve(ModelDefaults())
    return {name: getattr(resolved, name) for name in SHORTCUTS}


def test_exact_is_the_default_and_every_shortcut_is_off():
    assert FIELDS["speed"].default == EXACT
    assert filled() == {name: FIELDS[name].spec.off for name in SHORTCUTS}


@pytest.mark.parametrize("speed", SPEEDS)
def test_a_speed_fills_what_is_open_and_what_is_asked_for_stays(speed):
    assert filled(speed=speed) == dataclasses.asdict(SPEEDS[speed])
    asked = {"reuse_features": 1, "guidance_until": 1.0, "merge_tokens": 0.25, "attention_window": 5}
    assert filled(speed=speed, **asked) == asked
    for name, value in asked.items():
        assert filled(speed=speed, **{name: value}) == dataclasses.asdict(SPEEDS[speed]) | {name: value}


def test_a_faster_speed_leaves_out_more():
    exact, balanced, draft = SPEEDS.values()
    assert exact.reuse_features < balanced.reuse_features <= draft.reuse_features
    assert exact.guidance_until >= balanced.guidance_until >= draft.guidance_until
    assert balanced != draft


def test_few_steps_are_all_run_whole_unless_asked_otherwise():
    few = FEWEST_STEPS_TO_REUSE - 1
    assert filled(speed="Draft", steps=few)["reuse_features"] == 1
    assert filled(speed="Draft", steps=few + 1)["reuse_features"] > 1
    assert filled(speed="Draft", steps=few, reuse_features=2)["reuse_features"] == 2


def test_an_unknown_speed_is_answered_with_the_nearest():
    with pytest.raises(RequestError, match="'Draft'") as caught:
        filled(speed="Draught")
    assert caught.value.problems[0].field == "speed"


@pytest.mark.parametrize(
    ("is_guided", "reuse_features", "guidance_until", "expected"),
    [(False, 1, 1.0, 20), (True, 1, 1.0, 40), (True, 1, 0.25, 25), (True, 2, 1.0, 24), (True, 40, 0.0, 5)],
)
def test_a_forecast_counts_only_what_a_run_still_does(is_guided, reuse_features, guidance_until, expected):
    counted = passes(20, is_guided=is_guided, reuse_features=reuse_features, guidance_until=guidance_until)
    assert counted == expected


@pytest.fixture(scope="module")
def renderer():
    return LocalRenderer(StandaloneHost(device_name="cpu"))


def render(renderer, **changes):
    """The frames, how many texts the network was given call by call, and in how many calls its middle ran."""
    batches, deep = [], []

    def look(module, args):
        if not args or not isinstance(args[0], torch.Tensor) or args[0].is_meta:
            return  # predicting the memory goes through the network without computing
        if isinstance(module, UNet3D):
            batches.append(texts_in(args[2]))
            middle.append(module.middle_block[0])
        elif any(module is each for each in middle):
            deep.append(len(batches))

    middle = []
    handle = torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        request = renderer.resolve(dataclasses.replace(ASKED, **changes))
        return renderer.render(request, Run()).frames[:], batches, deep
    finally:
        handle.remove()


def test_reused_features_and_guidance_take_fewer_calls_in_a_whole_run(renderer):
    exact, batches, deep = render(renderer)
    assert (batches, len(deep)) == ([2] * STEPS, STEPS)
    _, batches, deep = render(renderer, reuse_features=3)
    assert (batches, deep) == ([2] * STEPS, [1, 4, 7, 10])
    _, batches, deep = render(renderer, guidance_until=0.25)
    assert (batches, len(deep)) == ([2] * 3 + [1] * 9, STEPS)
    _, batches, deep = render(renderer, reuse_features=2, guidance_until=0.5, split_guidance=True)
    assert (len(batches), set(batches), len(deep)) == (18, {1}, 9)
    again, *_ = render(renderer)
    assert np.array_equal(again, exact)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [*({"speed": speed} for speed in SPEEDS if speed != EXACT), {"merge_tokens": 0.5}, {"attention_window": 6}],
    ids=str,
)
def test_each_shortcut_gives_nearly_the_same_video_and_twice_the_same(renderer, changes):
    exact, *_ = render(renderer)
    near, *_ = render(renderer, **changes)
    again, *_ = render(renderer, **changes)
    assert np.array_equal(near, again)
    assert not np.array_equal(near, exact)
    error = np.mean((near.astype(float) - exact) ** 2)
    assert 10 * np.log10(255**2 / error) > 18
