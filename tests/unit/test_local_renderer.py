"""The local renderer with a small random model on the disk, in every layout that people have."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from model_layouts import LAYOUTS, TINY, random_states, write_original

from t2v_core import service
from t2v_core.errors import (
    Cancelled,
    ModelNotFoundError,
    NonFiniteError,
    OutOfMemoryError,
    RequestError,
    WeightsError,
)
from t2v_core.infotext import parse_infotext
from t2v_core.models.catalogue import find_model
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.rendering import local
from t2v_core.rendering.devices import traits_of
from t2v_core.rendering.local import LocalRenderer
from t2v_core.rendering.local_model import LocalModel
from t2v_core.rendering.plan import Plan, Rest, resolve_precision
from t2v_core.request import GenerationRequest, ModelDefaults
from t2v_core.run import ClipSaved, Notice, Preview, Progress, Run, Stage

CONFIG = dataclasses.replace(
    TINY,
    text=dataclasses.replace(TINY.text, vocab_size=49408),  # real prompts have real token ids
    defaults=ModelDefaults(steps=2, width=16, height=8, frames=3),
)
REQUEST = GenerationRequest(prompt="a red ball", seed=1, precision="fp32")


@pytest.fixture(scope="module")
def states():
    return lively(random_states(CONFIG))


def lively(states):
    """Weights large enough for pictures that differ."""
    return {part: {name: value * 3 for name, value in state.items()} for part, state in states.items()}


@pytest.fixture
def renderer(host, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return LocalRenderer(host)


def put(host, states, *, name="model", layout=write_original, config=CONFIG):
    folder = host.models_folders[0] / name
    layout(folder, config, states)
    return folder


def render(renderer, request=REQUEST, run=None):
    return renderer.render(renderer.resolve(request), run or Run())


def test_every_layout_gives_the_same_frames(host, states, renderer):
    frames = {}
    for name, layout in LAYOUTS.items():
        folder = put(host, states, name=name.replace("/", "-"), layout=layout)
        request = REQUEST.with_field("model", str(folder))
        sized = dataclasses.replace(request, width=16, height=8, frames=3, steps=2)
        frames[name] = render(renderer, sized).frames
    first = next(iter(frames.values()))
    assert first.shape == (3, 8, 16, 3)
    assert np.asarray(first).std() > 10
    for name, others in frames.items():
        assert np.array_equal(first, others), name


def test_open_fields_become_the_models_own(host, states, renderer):
    put(host, states)
    resolved = renderer.resolve(GenerationRequest(model="model"))
    assert (resolved.width, resolved.height, resolved.frames, resolved.steps) == (16, 8, 3, 2)
    assert resolved.model == "model"
    assert resolved.precision == "fp32"


def test_the_second_clip_loads_nothing(host, states, renderer):
    put(host, states)
    request = REQUEST.with_field("model", "model")
    for clip, loads in enumerate((True, False)):
        events = []
        render(renderer, request.with_field("seed", clip), Run(events.append))
        stages = {event.stage for event in events if isinstance(event, Progress)}
        assert (Stage.LOADING in stages) == loads
        assert {Stage.TEXT, Stage.SAMPLING, Stage.DECODING} <= stages


def test_an_unknown_model_is_said_with_those_that_are_there(host, states, renderer):
    put(host, states, name="mine")
    with pytest.raises(ModelNotFoundError, match="mine"):
        renderer.resolve(GenerationRequest(model="yours"))


def test_a_broken_model_is_said_before_any_work(host, states, renderer):
    folder = put(host, states)
    (folder / "VQGAN_autoencoder.pth").write_bytes(b"<!DOCTYPE html><html>Not found</html>")
    with pytest.raises(WeightsError, match=r"VQGAN_autoencoder\.pth"):
        renderer.resolve(GenerationRequest(model="model"))


def test_a_size_that_the_model_cannot_make_is_said_before_any_work(host, states, renderer):
    deep = dataclasses.replace(CONFIG, vae=dataclasses.replace(CONFIG.vae, dim_mult=(1, 1, 1, 1, 1)))
    put(host, random_states(deep), config=deep)
    with pytest.raises(RequestError, match="multiple of 16"):
        renderer.resolve(GenerationRequest(model="model", width=24, height=16))


def test_more_steps_than_the_sampler_has_are_refused_before_any_work(host, states, renderer):
    put(host, states)
    with pytest.raises(RequestError, match="50"):
        renderer.resolve(GenerationRequest(model="model", sampler="LCM", steps=51))


LOUD = {
    Part.TEXT: "ln_final.weight",
    Part.UNET: "out.2.weight",
    Part.AUTOENCODER: "decoder.conv_out.weight",
}
"""A tensor of each part that is made too large for fp16."""


@pytest.fixture(params=["bf16", "fp32"])
def wider(request, monkeypatch):
    """What comes after fp16, on a processor that multiplies bf16 and on one that doesn't."""
    flags = frozenset({"amx_bf16"} if request.param == "bf16" else ())
    monkeypatch.setattr("t2v_core.rendering.devices.cpu_flags", lambda: flags)
    traits_of.cache_clear()
    yield request.param
    traits_of.cache_clear()


@pytest.mark.parametrize("part", LOUD)
def test_a_part_that_overflows_in_fp16_is_run_again_in_a_wider_format_and_says_so(host, states, renderer, part, wider):
    loud = {name: dict(state) for name, state in states.items()}
    loud[part][LOUD[part]] = loud[part][LOUD[part]] * 1e6
    put(host, loud)
    events, again = [], []
    request = dataclasses.replace(REQUEST, model="model", precision="fp16")
    video = render(renderer, request, Run(events.append))
    assert [wider in event.message for event in events if isinstance(event, Notice)] == [True]
    assert video.request.precision == (wider if part is Part.UNET else "fp16")
    assert video.request.vae_precision == {Part.UNET: "fp16", Part.AUTOENCODER: wider}.get(part, "auto")
    sampled = [event.done for event in events if isinstance(event, Progress) and event.stage is Stage.SAMPLING]
    assert sampled == ([0, 0, 1, 2] if part is Part.UNET else [0, 1, 2])
    # Its recipe makes the same video, and the next clip doesn't try what has failed.
    assert np.array_equal(video.frames, render(LocalRenderer(host), video.request).frames)
    assert np.array_equal(video.frames, render(renderer, request, Run(again.append)).frames)
    assert not [event for event in again if isinstance(event, Notice)]


def test_the_autoencoder_has_a_number_format_of_its_own(host, states, renderer):
    put(host, states)
    request = dataclasses.replace(REQUEST, model="model", precision="bf16")
    frames = {name: render(renderer, request.with_field("vae_precision", name)) for name in ("auto", "bf16", "fp32")}
    assert np.array_equal(frames["auto"].frames, frames["bf16"].frames)
    assert not np.array_equal(frames["auto"].frames, frames["fp32"].frames)
    assert [video.request.vae_precision for video in frames.values()] == ["auto", "bf16", "fp32"]


def test_damaged_weights_end_in_an_error_that_names_the_doctor(host, states, renderer):
    damaged = {part: dict(state) for part, state in states.items()}
    damaged[Part.UNET]["out.2.bias"] = torch.full_like(damaged[Part.UNET]["out.2.bias"], torch.nan)
    put(host, damaged)
    with pytest.raises(NonFiniteError, match="doctor"):
        render(renderer, REQUEST.with_field("model", "model"))


def test_a_stop_while_loading_keeps_nothing_and_the_next_clip_works(host, states, renderer):
    put(host, states)
    run = Run(lambda event: run.interrupt() if isinstance(event, Progress) else None)
    with pytest.raises(Cancelled):
        render(renderer, REQUEST.with_field("model", "model"), run)
    assert render(renderer, REQUEST.with_field("model", "model")).frames.shape[0] == 3


def test_a_long_prompt_is_used_whole_and_a_short_one_filled_up(host, states, renderer):
    put(host, states)
    model = LocalModel(find_model("model", host.models_folders), Plan(device="cpu", precision="fp32"), Run())
    words = "word " * 100
    features = model.encode((words + "red", words + "blue", ""), Run())
    assert features.shape == (3, 2 * 77, 32)
    assert torch.equal(features[0, :77], features[1, :77])
    assert not torch.allclose(features[0, 77:], features[1, 77:])
    assert torch.equal(features[2, :77], features[2, 77:])


@pytest.mark.parametrize(
    ("asked", "device", "free", "expected"),
    [
        ("bf16", "cpu", 2**40, "bf16"),
        ("auto", "cpu", 2**40, "fp32"),
        ("auto", "cpu", 2**20, "bf16"),
    ],
)
def test_precision_follows_device_and_memory(asked, device, free, expected, monkeypatch):
    monkeypatch.setattr("t2v_core.rendering.plan.free_memory", lambda: free)
    assert resolve_precision(asked, device=device, parameters=10**9) == expected


class BorrowingHost:
    """A host that remembers when its device was lent and given back."""

    def __init__(self, host):
        self.models_folders, self.output_folder = host.models_folders, host.output_folder
        self.input_folders, self.upscalers = host.input_folders, host.upscalers
        self.lent = []

    def device(self):
        return "cpu"

    @contextlib.contextmanager
    def borrow_device(self):
        self.lent.append("taken")
        try:
            yield
        finally:
            self.lent.append("given back")


@pytest.mark.parametrize("failing", [False, True])
def test_the_device_is_borrowed_once_for_all_clips_and_given_back_also_after_an_error(host, states, failing):
    put(host, states)
    lender = BorrowingHost(host)
    renderer = LocalRenderer(lender)
    if failing:
        renderer.render = lambda request, run: 1 / 0  # type: ignore[assignment]
    request = dataclasses.replace(REQUEST, width=16, height=8, frames=2, steps=2, count=2)
    with pytest.raises(ZeroDivisionError) if failing else contextlib.nullcontext():
        service.generate([request], renderer=renderer, host=lender, run=Run())
    assert lender.lent == ["taken", "given back"]


def test_a_request_that_is_wrong_does_not_touch_the_device(host, states):
    put(host, states)
    lender = BorrowingHost(host)
    with pytest.raises(RequestError):
        service.generate([REQUEST.with_field("steps", 0)], renderer=LocalRenderer(lender), host=lender, run=Run())
    assert lender.lent == []


@pytest.mark.parametrize(
    ("rest", "loads_again"), [(Rest.NOWHERE, True), (Rest.MAIN_MEMORY, False), (Rest.ON_DEVICE, False)]
)
def test_where_the_model_waits_between_runs_decides_what_is_loaded_again(host, states, rest, loads_again):
    put(host, states)
    renderer = LocalRenderer(host, rest=lambda: rest)
    loads = []

    def listen(event):
        if isinstance(event, Progress) and event.stage is Stage.LOADING:
            loads.append(event)

    frames = []
    for _ in range(2):
        loads.clear()
        with renderer.session():
            frames.append(render(renderer, run=Run(listen)).frames)
    assert bool(loads) is loads_again
    assert np.array_equal(*frames)


def test_a_forecast_knows_memory_before_a_run_and_time_after_one(host, states, renderer):
    put(host, states)
    before = renderer.forecast(REQUEST)
    assert (before.seconds, before.device, before.precision) == (None, "cpu", "fp32")
    assert before.peak > before.weights
    assert before.weights == 4 * sum(tensor.numel() for state in states.values() for tensor in state.values())
    render(renderer)
    after = renderer.forecast(REQUEST.with_field("count", 3))
    assert after.seconds > 0
    larger = renderer.forecast(REQUEST.with_field("frames", 300))
    assert larger.seconds > after.seconds
    assert larger.peak > after.peak
    assert after.peak - after.held == before.peak - before.held
    assert renderer.forecast(REQUEST.with_field("precision", "bf16")).seconds is None


def test_a_partial_clip_is_not_measured(host, states, renderer):
    put(host, states)
    run = Run()
    run.listen(lambda event: run.interrupt() if isinstance(event, Preview) else None)
    assert render(renderer, run=run).partial
    assert renderer.forecast(REQUEST).seconds is None


@pytest.mark.parametrize(
    ("changes", "lower"), [({}, {"frames": 1}), ({"frames": 9}, {"frames": 4}), ({"frames": 1}, {})]
)
def test_out_of_memory_says_what_to_lower_and_the_next_run_works(host, states, monkeypatch, changes, lower):
    put(host, states)
    renderer, request = LocalRenderer(host), dataclasses.replace(REQUEST, **changes)
    for error in (MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")):
        with monkeypatch.context() as patch:
            patch.setattr(local, "tell", lambda *_, error=error, **rest: (_ for _ in ()).throw(error))
            with pytest.raises(OutOfMemoryError, match="doesn't fit") as caught:
                render(renderer, request)
        assert caught.value.lower == lower
        assert render(renderer, request).frames


@pytest.mark.parametrize("gives", [None, "another size"])
def test_a_hosts_upscaler_costs_no_clip_before_the_second_pass_or_after_it(host, states, renderer, gives):
    def upscaler(frame, width, height):
        if gives is None:
            raise RuntimeError("no such file")
        return frame.repeat(3, axis=0).repeat(3, axis=1)

    put(host, states)
    host.upscalers = lambda: {"Odd": upscaler}
    events = []
    request = dataclasses.replace(REQUEST, refine=2.0, upscale=2.0, upscaler="Odd")
    service.generate([request], renderer=renderer, host=host, run=Run(events.append))
    (saved,) = [event for event in events if isinstance(event, ClipSaved)]
    assert not saved.partial
    assert saved.first_frame.shape == (32, 64, 3)
    notices = [event.message for event in events if isinstance(event, Notice)]
    told = "The upscaler Odd failed (no such file): lanczos makes the rest of the frames larger."
    assert notices == ([told, told] if gives is None else [])
    notes = {key: value for key, value in parse_infotext(saved.infotext).extras.items() if "pscaled" in key}
    assert notes == ({"Refine upscaled by": "lanczos", "Upscaled by": "lanczos"} if gives is None else {})
