"""Where memory runs out a run steps down and goes on, with the same frames and an honest recipe."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import weakref

import numpy as np
import pytest
import torch
from model_layouts import TINY, random_states, write_original
from torch.overrides import TorchFunctionMode

from t2v_core import service
from t2v_core.errors import DeviceLostError, OutOfMemoryError
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.text_encoder import TextEncoder
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.rendering import local_model, measures, offload, slicing, text_in_passing
from t2v_core.rendering.devices import is_out_of_memory
from t2v_core.rendering.footprint import Footprint
from t2v_core.rendering.local import LocalRenderer
from t2v_core.rendering.offload import BlockStream, streamed_bytes
from t2v_core.rendering.plan import Rest
from t2v_core.rendering.prompt_cache import PromptCache
from t2v_core.rendering.simulation import LiveBytes
from t2v_core.rendering.slicing import sliced
from t2v_core.request import GenerationRequest, ModelDefaults
from t2v_core.run import Notice, Progress, Run, Stage

CONFIG = dataclasses.replace(
    TINY,
    text=dataclasses.replace(TINY.text, vocab_size=49408),
    defaults=ModelDefaults(steps=2, width=32, height=32, frames=4),
)
REQUEST = GenerationRequest(prompt="a red ball", seed=1, precision="fp32", model="model")


@pytest.fixture(scope="module")
def states():
    return {part: {k: v * 3 for k, v in state.items()} for part, state in random_states(CONFIG).items()}


@pytest.fixture
def renderer(host, states, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(slicing, "TOKENS_AT_ONCE", 32)
    write_original(host.models_folders[0] / "model", CONFIG, states)
    return LocalRenderer(host)


@pytest.fixture
def expected(renderer):
    """The frames without any measure, and a model that has to be loaded again."""
    frames = render(renderer).frames
    renderer._model, renderer._prompts = None, PromptCache()
    return frames


def render(renderer, run=None, **changes):
    return renderer.render(renderer.resolve(dataclasses.replace(REQUEST, **changes)), run or Run())


class Limited(LiveBytes):
    """An allocator with so many bytes for everything that is made inside of it, from when a stage begins to its end."""

    def __init__(self, limit, *, stage):
        super().__init__(seen=self.check)
        self.limit, self.stage, self.current = limit, stage, None
        self.refused, self.most = 0, 0

    def listen(self, event):
        if isinstance(event, Progress):
            self.current = event.stage

    def check(self, count):
        if self.current is self.stage:
            self.most = max(self.most, count)
            if count > self.limit:
                self.refused += 1
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate a test's worth of memory.")


def limited(renderer, limit, stage):
    allocator, notices = Limited(limit, stage=stage), []
    run = Run(allocator.listen, lambda event: notices.append(event.message) if isinstance(event, Notice) else None)
    with allocator:
        video = render(renderer, run)
    return video, notices, allocator


@pytest.mark.slow
@pytest.mark.parametrize("stage", [Stage.SAMPLING, Stage.DECODING])
def test_a_run_that_is_short_of_memory_ends_with_the_same_frames_on_a_lower_rung(renderer, expected, stage):
    _, _, free = limited(renderer, 2**40, stage)
    renderer._model, renderer._prompts = None, PromptCache()
    video, notices, allocator = limited(renderer, round(free.most * 0.97), stage)
    assert allocator.refused > 0
    assert notices
    assert np.abs(np.asarray(video.frames).astype(int) - np.asarray(expected).astype(int)).max() <= 1
    assert not video.partial
    assert "after memory ran out" in video.notes["Memory"]
    assert measures.words(measures.find_rung("text", device="cpu"))[0] in service.infotext_of(video)


@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("where", ["loading", "packing", "text", "sampling", "decoding"])
def test_memory_that_runs_out_so_often_anywhere_costs_so_many_rungs_and_nothing_else(
    renderer, expected, monkeypatch, where, times
):
    failures = fail(monkeypatch, where, times)
    steps = []
    run = Run(lambda event: steps.append(event.done) if is_step(event) else None)
    video = render(renderer, run)
    assert failures == []
    assert np.abs(np.asarray(video.frames).astype(int) - np.asarray(expected).astype(int)).max() <= 1
    assert video.notes["Memory"].count(";") == times
    assert steps == sorted(steps), "a step that was done was done again"


def is_step(event):
    return isinstance(event, Progress) and event.stage is Stage.SAMPLING


def fail(monkeypatch, where, times):
    """Let the second piece of work of a stage run out of memory so often; the list empties as that happens."""
    from t2v_core.models.modelscope.vae import Autoencoder
    from t2v_core.rendering import packing, part_loading

    left = [torch.cuda.OutOfMemoryError("CUDA out of memory.")] * times
    owner, name = {
        "loading": (part_loading, "load_part"),
        "packing": (packing, "pack"),
        "text": (TextEncoder, "forward"),
        "sampling": (UNet3D, "forward"),
        "decoding": (Autoencoder, "decode"),
    }[where]
    own, calls = getattr(owner, name), []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) > 1 and left:
            raise left.pop()
        return own(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)
    return left


def test_with_next_to_no_memory_the_error_is_clear_and_the_next_run_works(renderer, expected, monkeypatch):
    with monkeypatch.context() as patch:
        fail(patch, "sampling", 100)
        with pytest.raises(OutOfMemoryError, match="every measure") as caught:
            render(renderer)
    assert caught.value.remedy
    assert renderer._model is None
    assert np.array_equal(render(renderer).frames, expected)


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_that_is_not_kept_gives_its_memory_back_at_once(renderer, monkeypatch, fails):
    """Python looks for things that refer to themselves only now and then, which may be hours later."""
    seen = []
    forward = UNet3D.forward

    def watched(unet, *args, **options):
        seen.append(weakref.ref(unet))
        if fails:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return forward(unet, *args, **options)

    monkeypatch.setattr(UNet3D, "forward", watched)
    monkeypatch.setattr(renderer, "_rest", lambda: Rest.NOWHERE)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(OutOfMemoryError), renderer.session():
            render(renderer)
        assert seen
        assert all(unet() is None for unet in seen)
    finally:
        gc.enable()


def test_with_a_megabyte_free_the_forecast_says_that_it_does_not_fit(renderer, monkeypatch):
    from t2v_core.rendering import local

    monkeypatch.setattr(local, "free_memory", lambda device: 2**20)
    told = renderer.forecast(REQUEST)
    assert told.short_of > 0
    assert told.measures == measures.words(measures.rungs_for("cpu")[-1])


def test_a_device_that_is_lost_ends_the_run_with_a_remedy_and_the_model_is_loaded_again(
    renderer, expected, monkeypatch
):
    with monkeypatch.context() as patch:

        def lost(*args, **kwargs):
            raise RuntimeError("CUDA error: device-side assert triggered\nmore")

        patch.setattr(UNet3D, "forward", lost)
        with pytest.raises(DeviceLostError, match="Start the program again"):
            render(renderer)
    assert renderer._model is None
    assert np.array_equal(render(renderer).frames, expected)


@pytest.mark.parametrize("rung", [rung.name for rung in measures.RUNGS])
def test_every_rung_that_is_asked_for_gives_the_same_frames_and_names_itself(renderer, expected, rung, monkeypatch):
    # As on a device of its own: what is "moved" there is really copied, block by block.
    monkeypatch.setattr(measures, "rungs_for", lambda device: measures.RUNGS)
    monkeypatch.setattr("t2v_core.rendering.local_model.rungs_for", lambda device: measures.RUNGS)
    monkeypatch.setattr("t2v_core.rendering.packing.pack", lambda part: None)
    video = render(renderer, memory=rung)
    assert np.abs(np.asarray(video.frames).astype(int) - np.asarray(expected).astype(int)).max() <= 1
    assert video.notes.get("Memory", "") == "; ".join(measures.words(measures.find_rung(rung, device="cpu")))


def test_with_one_part_at_a_time_no_other_is_held_and_a_known_prompt_needs_no_tower(renderer):
    seen = []

    def look(event):
        if isinstance(event, Progress) and event.stage in (Stage.SAMPLING, Stage.DECODING) and event.done:
            seen.append({part for part in Part if part in renderer._model._residence})

    render(renderer, Run(look), memory="parts")
    assert {frozenset(parts) for parts in seen} == {frozenset({Part.UNET}), frozenset({Part.AUTOENCODER})}
    loads = []
    render(renderer, Run(lambda event: loads.append(event.total) if is_loading(event) else None), memory="parts")
    assert len(set(loads)) == 2, "the UNet and the autoencoder, but not the text tower"


@pytest.mark.parametrize("in_passing", [True, False], ids=["read in passing", "as on a GPU"])
def test_a_text_tower_that_leaves_comes_back_for_the_next_prompt_and_nothing_else_does(
    renderer, monkeypatch, in_passing
):
    held, towers, loads = {}, [], []
    if not in_passing:
        monkeypatch.setattr(local_model, "is_read_in_passing", lambda rung, *, device: False)

    def look(event):
        residence = renderer._model._residence if renderer._model else {}
        if is_loading(event):
            loads.append(event.total)
        elif isinstance(event, Progress) and event.done:
            held.setdefault(event.stage, set()).add(frozenset(part for part in Part if part in residence))
            if event.stage is Stage.TEXT:
                towers.extend(weakref.ref(part) for name, part in residence._parts.items() if name is Part.TEXT)
            else:
                assert not any(tower() for tower in towers), "somebody else holds it"

    tower, others = set() if in_passing else {Part.TEXT}, {Part.UNET, Part.AUTOENCODER}
    render(renderer, Run(look), memory="text")
    assert held == {Stage.TEXT: {frozenset(tower)}, Stage.SAMPLING: {frozenset({Part.UNET})},
                    Stage.DECODING: {frozenset(others)}}  # fmt: skip
    for collected in (held, towers, loads):
        collected.clear()
    render(renderer, Run(look), memory="text", prompt="another")
    assert len(set(loads)) == 1, "the text tower alone"
    assert held == {Stage.TEXT: {frozenset(tower | others)}, Stage.SAMPLING: {frozenset(others)},
                    Stage.DECODING: {frozenset(others)}}  # fmt: skip


def test_memory_that_runs_out_while_the_text_tower_is_read_in_passing_costs_a_rung(renderer, expected, monkeypatch):
    read, calls = text_in_passing.read_target, []

    def failing(*args, **options):
        calls.append(1)
        if len(calls) == 7:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return read(*args, **options)

    monkeypatch.setattr(text_in_passing, "read_target", failing)
    video = render(renderer, memory="text")
    assert len(calls) > 7
    assert np.array_equal(video.frames, expected)
    assert video.notes["Memory"].endswith("after memory ran out")


def test_a_text_tower_that_is_there_is_not_read_again(renderer):
    loads = []
    render(renderer, memory="all")
    render(renderer, Run(lambda event: loads.append(event) if is_loading(event) else None), memory="text", prompt="b")
    assert loads == []


def test_a_second_run_loads_nothing_where_there_is_room(renderer):
    loads = []
    render(renderer)
    render(renderer, Run(lambda event: loads.append(event) if is_loading(event) else None), prompt="another")
    assert loads == []


def is_loading(event):
    return isinstance(event, Progress) and event.stage is Stage.LOADING


# --- the measures themselves ----------------------------------------------------------------------------------------


@pytest.fixture
def unet(states):
    network = UNet3D(CONFIG.unet).requires_grad_(False).eval()
    network.load_state_dict(states[Part.UNET])
    return network


INPUTS = (torch.linspace(-1, 1, 4 * 5 * 8 * 8).view(1, 4, 5, 8, 8), torch.tensor([500.0]), torch.ones(1, 77, 32))


@torch.inference_mode()
def test_slices_change_nothing_and_leave_nothing_behind(unet, monkeypatch):
    monkeypatch.setattr(slicing, "TOKENS_AT_ONCE", 70)
    whole = unet(*INPUTS)
    with sliced(unet):
        assert torch.allclose(unet(*INPUTS), whole, rtol=1e-5, atol=1e-5)
    assert not any("forward" in vars(module) for module in unet.modules())
    twice = [torch.cat([each, each]) for each in INPUTS]
    with sliced(unet):
        assert torch.allclose(unet(*twice)[1:], whole, rtol=1e-5, atol=1e-5)


class Places(TorchFunctionMode):
    """Sees in whose memory each weight lies that is used."""

    def __init__(self, stream):
        super().__init__()
        self.places = [place.memory.untyped_storage().data_ptr() for place in stream._places]
        self.used = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        computes = getattr(func, "__name__", "") in ("linear", "conv2d", "group_norm", "layer_norm", "__getitem__")
        for value in args if computes else ():
            if isinstance(value, torch.nn.Parameter):
                self.used.add(value.untyped_storage().data_ptr() in self.places)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("ahead", [False, True])
@torch.inference_mode()
def test_streamed_weights_are_only_ever_in_two_places_on_the_device(unet, monkeypatch, ahead):
    whole = unet(*INPUTS)
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    stream = BlockStream(unet, device="cpu", pinned=False)
    if ahead:  # as on a GPU, but for the copies being whole at once
        stream._streams.copying = object()
        for name in ("mark", "wait_for"):
            monkeypatch.setattr(offload._Streams, name, lambda self, mark=None: None)
        monkeypatch.setattr(offload._Streams, "copy", lambda self, source, place, after: (place.copy_(source), None)[1])
    for _ in range(2):
        with Places(stream) as places:
            assert torch.equal(unet(*INPUTS), whole)
        assert places.used == {True}, "a weight was used where it waits"
    assert stream.bytes_on_device == streamed_bytes(unet) < sum(v.nbytes for v in before.values())
    stream.close()
    assert torch.equal(unet(*INPUTS), whole)
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())


@torch.inference_mode()
def test_a_block_that_fails_leaves_its_weights_where_they_wait(unet):
    stream = BlockStream(unet, device="cpu", pinned=False)
    whole = unet(*INPUTS)
    handle = unet.middle_block[1].register_forward_pre_hook(
        lambda *_: (_ for _ in ()).throw(RuntimeError("in the middle"))
    )
    with pytest.raises(RuntimeError, match="in the middle"):
        unet(*INPUTS)
    handle.remove()
    assert torch.equal(unet(*INPUTS), whole)
    stream.close()


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("x"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shapes don't match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_say_that_memory_ran_out(error, is_it):
    assert is_out_of_memory(error) is is_it


def test_the_second_prediction_of_a_model_is_the_first_ones(renderer, monkeypatch):
    renderer.forecast(REQUEST)
    monkeypatch.setattr(Footprint, "_unet", lambda *args, **kwargs: pytest.fail("simulated again"))
    assert renderer.forecast(dataclasses.replace(REQUEST, frames=40, width=128)).peak
