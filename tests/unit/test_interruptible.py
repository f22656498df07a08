"""Real networks, small and random, are left within a block or two of a stop, and are whole afterwards."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from model_layouts import TINY, random_states, write_original

from t2v_core.errors import Cancelled
from t2v_core.models.catalogue import find_model
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.models.modelscope.text_encoder import TextEncoder
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.models.modelscope.vae import Autoencoder
from t2v_core.rendering import interruptible as interruptible_module
from t2v_core.rendering import launching, local_model
from t2v_core.rendering.interruptible import Stopped, interruptible
from t2v_core.rendering.local_model import LocalModel
from t2v_core.rendering.plan import Plan
from t2v_core.rendering.story import tell
from t2v_core.rendering.upcast import widen_on_use
from t2v_core.request import GenerationRequest, ModelDefaults
from t2v_core.run import Preview, Progress, Run, Stage


@pytest.fixture(autouse=True)
def looks_before_small_blocks(monkeypatch):
    monkeypatch.setattr(interruptible_module, "LEAST_WEIGHTS", 1)


PARTS = {
    Part.TEXT: (TextEncoder, TINY.text, lambda net: net(torch.arange(77)[None])),
    Part.UNET: (
        UNet3D,
        TINY.unet,
        lambda net: net(torch.ones(1, 4, 2, 4, 4), torch.tensor([5.0]), torch.ones(1, 77, 32)),
    ),
    Part.AUTOENCODER: (Autoencoder, TINY.vae, lambda net: net.decode(torch.ones(1, 4, 4, 4))),
}


def build(part, dtype=torch.float32):
    kind, config, _ = PARTS[part]
    network = kind(config)
    state = {name: value.to(dtype) for name, value in random_states(TINY)[part].items()}
    network.load_state_dict(state, strict=True, assign=True)
    return network.requires_grad_(False).eval()


class Counted:
    """A `stopped` that counts how often it is asked and says yes from a certain time on."""

    def __init__(self, yes_from: int) -> None:
        self.asked = 0
        self.yes_from = yes_from

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked >= self.yes_from


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_while_nobody_stops_the_results_are_the_same_to_the_bit_and_no_hook_stays(part):
    network, call = build(part), PARTS[part][2]
    with torch.inference_mode():
        alone = call(network)
        counted = Counted(10**6)
        with interruptible(network, counted):
            assert torch.equal(call(network), alone)
        looks = counted.asked
        assert looks > 5
        assert torch.equal(call(network), alone)
    assert counted.asked == looks
    assert not any(module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_it_is_left_at_the_first_block_after_a_stop_and_works_again(part):
    network, call = build(part), PARTS[part][2]
    with torch.inference_mode():
        alone, counted = call(network), Counted(5)
        with pytest.raises(Stopped), interruptible(network, counted):
            call(network)
        assert counted.asked == 5
        assert torch.equal(call(network), alone)
    assert not any(module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_no_part_of_the_work_between_two_looks_is_large(part):
    """Matrices of the layers that run between two looks, as a share of the whole network's."""
    network, call = build(part), PARTS[part][2]
    work, since = [], [0]
    for module in network.modules():
        own = sum(weight.numel() for weight in module.parameters(recurse=False))
        if own:
            module.register_forward_pre_hook(lambda module, inputs, own=own: since.append(since.pop() + own))

    def look():
        work.append(since.pop())
        since.append(0)
        return False

    with torch.inference_mode(), interruptible(network, look):
        call(network)
    total = sum(work) + since[0]
    assert max(*work, since[0]) / total < 0.4


@pytest.mark.parametrize("part", [Part.TEXT, Part.UNET], ids=str)
def test_weights_that_are_widened_for_use_are_narrow_again_after_a_stop(part):
    network, call = build(part, torch.bfloat16), PARTS[part][2]
    with interruptible(network, Counted(5)):  # these hooks come before those of the widening, and all later ones after
        widen_on_use(network, torch.float32)
        with torch.inference_mode(), pytest.raises(Stopped):
            call(network)
    assert {weight.dtype for weight in network.parameters()} == {torch.bfloat16}
    with torch.inference_mode():
        whole = call(network)
        for look in range(1, 8):
            with pytest.raises(Stopped), interruptible(network, Counted(look)):
                call(network)
            assert {weight.dtype for weight in network.parameters()} == {torch.bfloat16}
        with interruptible(network, Counted(10**6)):
            assert torch.equal(call(network), whole)


def test_only_blocks_that_take_long_are_looked_at(monkeypatch):
    monkeypatch.setattr(interruptible_module, "LEAST_WEIGHTS", 50_000)
    network = build(Part.UNET)
    few = Counted(10**6)
    with torch.inference_mode(), interruptible(network, few):
        PARTS[Part.UNET][2](network)
    assert 0 < few.asked < 20
    with torch.device("meta"):
        published = UNet3D(ModelConfig().unet)
    with interruptible(published, few):
        assert sum(len(module._forward_pre_hooks) for module in published.modules()) > 400


# --- a whole clip ---------------------------------------------------------------------------------------------------

CONFIG = dataclasses.replace(
    TINY,
    text=dataclasses.replace(TINY.text, vocab_size=49408),
    defaults=ModelDefaults(steps=3, width=16, height=8, frames=4),
)
REQUEST = GenerationRequest(prompt="a red ball", seed=1, precision="fp32", model="m").resolve(CONFIG.defaults)


@pytest.fixture
def model(host, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    states = {part: {key: value * 3 for key, value in state.items()} for part, state in random_states(CONFIG).items()}
    write_original(host.models_folders[0] / "m", CONFIG, states)
    return LocalModel(find_model("m", host.models_folders), Plan(device="cpu", precision="fp32"), Run())


class Watched:
    """Counts the blocks of all networks that a run looks at, by the stage that it is in, and stops at one of them."""

    def __init__(self, monkeypatch, *, stage=None, look=0):
        self.looks = dict.fromkeys(Stage, 0)
        self.stage = Stage.LOADING
        self.run = Run(self.hear)

        def watched(network, stopped, **options):
            def counted():
                self.looks[self.stage] += 1
                if (self.stage, self.looks[self.stage]) == (stage, look):
                    self.run.interrupt()
                return stopped()

            return interruptible(network, counted, **options)

        for module in (local_model, launching):
            monkeypatch.setattr(module, "interruptible", watched)

    def hear(self, event):
        if isinstance(event, Progress):
            self.stage = event.stage
        elif isinstance(event, Preview):
            assert event.frames().shape == (4, 4, 8, 3)


def test_a_stop_takes_effect_at_the_very_next_block_of_every_stage(model, monkeypatch):
    whole = Watched(monkeypatch)
    complete = tell(REQUEST, model, whole.run)
    step = whole.looks[Stage.SAMPLING] // 3
    frame = whole.looks[Stage.DECODING] // 4
    assert min(whole.looks[Stage.TEXT], step, frame) > 5

    for stage, look in ((Stage.TEXT, 3), (Stage.SAMPLING, step - 1)):
        watched = Watched(monkeypatch, stage=stage, look=look)
        with pytest.raises(Cancelled):  # with another prompt, for the first one's features are remembered
            tell(dataclasses.replace(REQUEST, prompt=f"a ball, {stage}"), model, watched.run)
        assert watched.looks[stage] == look
        assert watched.looks[Stage.DECODING] == 0

    # The first step looks more often, for it makes the text's keys and values.
    in_the_last_step = whole.looks[Stage.SAMPLING] - 4
    watched = Watched(monkeypatch, stage=Stage.SAMPLING, look=in_the_last_step)
    video = tell(REQUEST, model, watched.run)
    assert (video.steps_done, len(video.frames), video.partial) == (2, 4, True)
    assert watched.looks[Stage.SAMPLING] == in_the_last_step
    assert watched.looks[Stage.DECODING] == whole.looks[Stage.DECODING]

    for look, frames, looks in ((3, 1, frame + 1), (frame + 3, 1, frame + 3), (3 * frame + 2, 3, 3 * frame + 2)):
        watched = Watched(monkeypatch, stage=Stage.DECODING, look=look)
        video = tell(REQUEST, model, watched.run)
        assert (video.steps_done, len(video.frames), video.partial) == (3, frames, True)
        assert watched.looks[Stage.DECODING] <= looks
        assert np.array_equal(video.frames, complete.frames[:frames])

    assert np.array_equal(tell(REQUEST, model, Run()).frames, complete.frames)
