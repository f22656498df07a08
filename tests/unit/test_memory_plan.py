"""What a clip takes is predicted from the networks' code, and the fastest way that fits is chosen."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch
from model_layouts import TINY
from torch.utils._python_dispatch import TorchDispatchMode

from t2v_core.models.catalogue import DEMO, find_model
from t2v_core.models.loading import build
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.rendering.footprint import ClipShape, Footprint
from t2v_core.rendering.measures import MEMORY, RUNGS, find_rung, rungs_for, words
from t2v_core.rendering.memory_plan import LARGE_TEXT_TOWER, plan_memory
from t2v_core.rendering.number_formats import NumberFormat
from t2v_core.rendering.simulation import Growth, LiveBytes, trace

HALF = NumberFormat("fp16", torch.float16, torch.float16)
FULL = NumberFormat("fp32", torch.float32, torch.float32)


def footprint(config=TINY, numbers=FULL, device="cuda"):
    return Footprint(config, dict.fromkeys(Part, numbers), device=device)


@pytest.fixture(scope="module")
def full_size():
    return footprint(ModelConfig(), HALF)


def live_at_most(call):
    """The most bytes that tensors made in a call really had, counted apart from our own code: by the dispatcher."""
    most = 0

    class Watch(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.live = LiveBytes(seen=lambda count: None)

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal most
            result = func(*args, **(kwargs or {}))
            self.live._look([value for value in torch.utils._pytree.tree_leaves(result) if torch.is_tensor(value)])
            most = max(most, self.live.now)
            return result

    with torch.no_grad(), Watch():
        call()
    return most


@pytest.mark.parametrize("shape", [(1, 4, 16, 16), (2, 5, 8, 24), (1, 16, 8, 8)])
def test_the_simulated_unet_holds_what_a_real_one_holds(shape):
    batch, frames, height, width = shape
    inputs = {}
    peaks = {}
    for device in ("meta", "cpu"):
        unet = build(Part.UNET, TINY).requires_grad_(False).eval()
        unet = unet if device == "meta" else unet.to_empty(device="cpu")
        for parameter in unet.parameters():
            if device == "cpu":
                torch.nn.init.normal_(parameter, std=0.02)
        inputs = (
            torch.zeros(batch, 4, frames, height, width, device=device),
            torch.zeros(batch, device=device),
            torch.zeros(batch, 77, TINY.unet.context_dim, device=device),
        )
        peaks[device] = (
            # Another device's kernels take no workspace here: only tensors are compared.
            max(trace(lambda unet=unet, inputs=inputs: unet(*inputs), networks=[unet], kind="none"))
            if device == "meta"
            else live_at_most(lambda unet=unet, inputs=inputs: unet(*inputs))
        )
    assert peaks["meta"] == pytest.approx(peaks["cpu"], rel=0.1)


def test_the_prediction_grows_in_straight_lines_between_the_two_sizes_it_knows():
    growth = Growth.between((10, [100, 60, 5]), (20, [110, 120, 6]))
    assert [growth.peak(size) for size in (10, 15, 20, 40)] == [100, 105, 120, 240]


def test_interpolated_and_simulated_peaks_agree_at_other_sizes():
    prediction = footprint()
    for frames, height, width in ((3, 32, 32), (24, 16, 40), (5, 64, 16)):
        clip = ClipShape(frames, height, width, guided=True)
        simulated = max(prediction._unet((frames, height, width), 2, 1))
        assert prediction._sampling(clip, RUNGS[0]) == pytest.approx(simulated, rel=0.02)


def test_each_rung_takes_less_than_the_one_before(full_size):
    clip = ClipShape(24, 40, 72, guided=True)
    peaks = [full_size.peak(clip, rung, chunk=1) for rung in RUNGS]
    assert peaks == sorted(peaks, reverse=True)
    assert len(set(peaks)) == len(peaks)


def test_what_cards_hold(full_size):
    """Issue 4's bounds: 256×256 with 16 frames within 3.6 GB exact and 2.2 GB on the last rung, 125 frames in 6 GB."""
    short, long = (ClipShape(frames, 32, 32, guided=True) for frames in (16, 125))
    peaks = {rung.name: full_size.peak(short, rung, chunk=1) for rung in RUNGS}
    assert peaks["parts"] <= 3.6e9
    assert peaks["blocks"] <= 2.2e9
    assert full_size.peak(long, find_rung("slices", device="cuda"), chunk=1) <= 6e9


def test_a_prediction_loads_neither_the_compiler_nor_symbolic_algebra():
    script = (
        "import sys, torch\n"
        "from t2v_core.rendering.footprint import *\n"
        "from t2v_core.rendering.measures import RUNGS\n"
        "from t2v_core.rendering.number_formats import NumberFormat\n"
        "numbers = dict.fromkeys(Part, NumberFormat('fp16', torch.float16, torch.float16))\n"
        "for rung in RUNGS:\n"
        "    Footprint(ModelConfig(), numbers, device='cuda').peak(ClipShape(8, 32, 32, True), rung, chunk=1)\n"
        "sys.exit('sympy' in sys.modules or 'torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("free", "rung"),
    [(5e9, "all"), (4.2e9, "text"), (3.9e9, "parts"), (3.45e9, "halves"), (3.3e9, "slices"), (2.2e9, "blocks"),
     (1e6, "blocks"), (None, "all")],
)  # fmt: skip
def test_the_fastest_rung_that_fits_is_chosen(full_size, free, rung):
    clip = ClipShape(16, 32, 32, guided=True)
    plan = plan_memory(full_size, clip, device="cuda", free=None if free is None else int(free))
    assert plan.rung.name == rung


def test_what_is_not_loaded_yet_lies_not_beside_the_text_tower(full_size):
    clip, text = ClipShape(16, 32, 32, guided=True), find_rung("text", device="cuda")
    first, later = (full_size.peak(clip, text, chunk=1, loaded=parts) for parts in ((), Part))
    assert later > first >= full_size.weights(Part.UNET) + full_size.weights(Part.AUTOENCODER)
    plans = [plan_memory(full_size, clip, device="cuda", free=int(3.9e9), loaded=parts) for parts in ((), Part)]
    assert [plan.rung.name for plan in plans] == ["text", "parts"]
    everything = find_rung("all", device="cuda")
    assert full_size.peak(clip, everything, chunk=1, loaded=()) == full_size.peak(clip, everything, chunk=1)


def test_a_rung_that_was_asked_for_is_taken_whatever_is_free(full_size):
    clip = ClipShape(16, 32, 32, guided=True)
    assert plan_memory(full_size, clip, device="cuda", asked="slices", free=10**12).rung.name == "slices"
    assert plan_memory(full_size, clip, device="cuda", asked="all", free=10**6).rung.name == "all"


def test_frames_are_decoded_together_as_far_as_there_is_room(full_size):
    large = ClipShape(16, 72, 128, guided=False)
    roomy = plan_memory(full_size, large, device="cuda", free=10**12)
    tight = plan_memory(full_size, large, device="cuda", free=round(full_size.peak(large, RUNGS[0], chunk=1) * 1.06))
    assert roomy.decode_chunk == 8
    assert 1 <= tight.decode_chunk < 8
    on_cpu = footprint(device="cpu")
    assert plan_memory(on_cpu, ClipShape(16, 8, 8, guided=True), device="cpu", free=None).decode_chunk == 1


def test_a_cpu_has_no_other_place_for_weights_to_wait_in():
    assert [rung.name for rung in rungs_for("cpu")] == ["all", "text", "parts", "halves", "slices"]
    assert find_rung("blocks", device="cpu").name == "slices"
    assert find_rung("blocks", device="cuda:1").name == "blocks"


def test_a_cpu_keeps_a_large_text_tower_only_if_it_is_asked_to():
    clip = ClipShape(4, 32, 32, guided=True)
    large = footprint(ModelConfig(), HALF, "cpu")
    assert large.weights(Part.TEXT) > LARGE_TEXT_TOWER
    for free in (None, 10**12):
        assert plan_memory(large, clip, device="cpu", free=free).rung.name == "text"
    assert plan_memory(large, clip, device="cpu", free=10**6).rung.name == "slices"
    assert plan_memory(large, clip, device="cpu", asked="all", free=10**12).rung.name == "all"


@pytest.mark.parametrize("config", [TINY, find_model(DEMO, ()).config], ids=["tiny", "demo"])
def test_a_small_text_tower_stays_for_the_next_prompt(config):
    clip = ClipShape(4, 8, 8, guided=True)
    assert plan_memory(footprint(config, device="cpu"), clip, device="cpu", free=10**12).rung.name == "all"


def test_what_is_not_on_the_device_while_the_unet_works():
    away = {rung.name: {part for part in Part if rung.sends_away(part, working=Part.UNET)} for rung in RUNGS}
    assert away["all"] == set()
    assert away["text"] == {Part.TEXT}
    assert all(away[rung.name] == {Part.TEXT, Part.AUTOENCODER} for rung in RUNGS[2:])
    assert not any(rung.sends_away(Part.TEXT, working=Part.TEXT) for rung in RUNGS)


def test_the_weights_that_count_are_those_that_stay(full_size):
    text, unet, autoencoder = (full_size.weights(part) for part in Part)
    rung = find_rung("text", device="cuda")
    clip = ClipShape(2, 8, 8, guided=False)
    resident = [full_size._resident(part, clip, rung, tuple(Part)) for part in Part]
    assert resident == [text + unet + autoencoder, unet + autoencoder, unet + autoencoder]


def test_every_rung_has_a_name_to_ask_for_and_words_for_people():
    assert MEMORY == ("auto", "all", "text", "parts", "halves", "slices", "blocks")
    assert words(RUNGS[0]) == ()
    assert all(len(words(rung)) == index for index, rung in enumerate(RUNGS))


def test_widened_weights_count_while_their_layer_runs():
    widened = footprint(numbers=dataclasses.replace(HALF, computes=torch.float32))
    clip = ClipShape(2, 8, 8, guided=False)
    plain = footprint(numbers=HALF)
    assert widened.weights(Part.UNET) == plain.weights(Part.UNET)
    assert widened._sampling(clip, RUNGS[0]) > 2 * plain._sampling(clip, RUNGS[0])
