"""Ours as a contender of the side-by-side benchmark: what the clock sees of it, and its ways to a GPU."""

from __future__ import annotations

import contextlib
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from model_layouts import TINY_CLIPS
from recorder import Recorder

from benchmarks.compare import measuring, weights, worker
from benchmarks.compare.contender import FallbackError
from benchmarks.compare.results import WAYS
from benchmarks.compare.sizes import Size
from benchmarks.compare.weights import DIFFUSERS, ORIGINAL
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import TextConfig
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.models.modelscope.vae import Autoencoder
from t2v_core.rendering import compiled, graphed, launching, remembered_texts
from t2v_core.rendering.devices import Traits
from t2v_core.rendering.graphed import WARM_UP
from t2v_core.rendering.local_model import LocalModel

SIZE = [2, 64, 64, 1]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    weights.write(folder, TINY_CLIPS, [ORIGINAL])
    return folder


@pytest.fixture
def desk(tiny, tmp_path, monkeypatch):
    """Makes a process' desk with one contender on it, in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    given = {"device": "cpu", "config": TINY_CLIPS.to_dict(), "threads": 0}
    desks = []

    def make(name="ours", rung="auto", precision="fp32"):
        desks.append(worker.Desk(folder=str(tiny), precision=precision, rung=rung, **given))
        desks[-1].prepare(names=[name])
        return desks[-1]

    yield make
    for each in desks:
        for contender in each._contenders.values():
            contender._midst.close()


@pytest.fixture
def opened(monkeypatch):
    """Which of the model's parts have been opened, and which of them are open still."""
    seen = SimpleNamespace(ever=[], now=[], texts=0)

    def noting(name):
        original = getattr(LocalModel, name)

        @contextlib.contextmanager
        def opening(self, *args, **options):
            with original(self, *args, **options) as call:
                seen.ever.append(name)
                seen.now.append(name)
                yield call
                seen.now.remove(name)

        monkeypatch.setattr(LocalModel, name, opening)

    for name in ("predictor", "decoder"):
        noting(name)
    remembered = remembered_texts.RememberedText

    def remember(*args):
        seen.texts += 1
        return remembered(*args)

    monkeypatch.setattr(remembered_texts, "RememberedText", remember)
    return seen


def test_a_layout_is_written_once_and_only_if_it_is_wanted(tmp_path):
    weights.write(tmp_path, TINY_CLIPS, [ORIGINAL])
    assert {path.name for path in tmp_path.iterdir()} == {ORIGINAL, "written.json"}
    file = tmp_path / ORIGINAL / TINY_CLIPS.files.unet
    written = file.stat().st_mtime_ns
    pytest.importorskip("diffusers")
    weights.write(tmp_path, TINY_CLIPS)
    assert len(list((tmp_path / DIFFUSERS).rglob("*.safetensors"))) == len(Part)
    weights.write(tmp_path, TINY_CLIPS)
    assert file.stat().st_mtime_ns == written
    weights.write(tmp_path, dataclasses.replace(TINY_CLIPS, text=TextConfig(width=32, layers=2, heads=2)), [ORIGINAL])
    assert file.stat().st_mtime_ns > written


# --- what the clock sees ----------------------------------------------------------------------------------------------


def test_what_a_clip_does_once_is_done_before_a_step_is_timed(desk, opened, monkeypatch, tmp_path):
    made = desk()
    resolved = []
    renderer = made._contenders["ours"]._renderer
    resolve = renderer.resolve
    monkeypatch.setattr(renderer, "resolve", lambda request: resolved.append(1) or resolve(request))
    opened.ever.clear()
    opened.texts = 0
    for go in range(3):
        made.step(name="ours", size=SIZE, save=str(tmp_path / f"{go}.npy"))
    assert opened.ever == opened.now == ["predictor"]
    assert opened.texts == len(resolved) == 1
    results = [np.load(tmp_path / f"{go}.npy") for go in range(3)]
    assert np.array_equal(results[0], results[2])
    for _ in range(2):
        made.decode(name="ours", size=SIZE)
    assert opened.ever == ["predictor", "decoder"]
    assert opened.now == ["decoder"]
    assert len(resolved) == 2


@pytest.mark.parametrize("between", ["another size", "a clip"])
def test_a_step_is_made_ready_again_after_something_else(desk, opened, between):
    made = desk()
    made.step(name="ours", size=SIZE)
    if between == "a clip":
        made.generate(name="ours", size=SIZE, steps=2, sampler="DDIM")
        assert opened.now == []
    else:
        made.step(name="ours", size=[3, 64, 64, 1])
        assert opened.now == ["predictor"]
    before = len(opened.ever)
    made.step(name="ours", size=SIZE)
    assert opened.ever[before:] == opened.now == ["predictor"]


def test_the_clock_waits_for_a_gpu_before_it_starts(desk, monkeypatch):
    made, order = desk(), []
    monkeypatch.setattr(worker, "synchronize", lambda device: order.append("waits"))
    monkeypatch.setattr(worker.time, "perf_counter", lambda: order.append("looks at the clock") or 0.0)
    made.step(name="ours", size=SIZE)
    looks = [place for place, what in enumerate(order) if what == "looks at the clock"]
    assert order[looks[-2] - 1] == order[looks[-1] - 1] == "waits"


@pytest.mark.parametrize(
    ("device", "takes", "calls", "seconds"),
    [("cpu", 0.01, 1, 0.26), ("cuda", 0.0625, 1 + 2, 0.0625 + 0.25 / 2), ("cuda", 2.0, 2, 2.25)],
)
def test_a_go_on_a_gpu_is_half_a_second_of_them_in_a_row(monkeypatch, device, takes, calls, seconds):
    now, called = [0.0], []

    def work():
        called.append(1)
        now[0] += takes
        return torch.tensor(float(len(called)))

    def wait(device):
        now[0] += 0.25  # with the first one it's 0.3125 s, of which two fit

    monkeypatch.setattr(worker, "synchronize", wait)
    monkeypatch.setattr(worker.time, "perf_counter", lambda: now[0])
    result, taken = worker.timed(work, device=device)
    assert result == len(called) == calls
    assert taken == pytest.approx(seconds)


def test_a_model_that_was_given_up_for_want_of_memory_is_loaded_again(desk):
    made = desk()
    made._contenders["ours"]._renderer._model = None
    assert made.step(name="ours", size=SIZE)["seconds"] > 0


# --- guidance, and the ways to a GPU ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rung", ["auto", "halves"])
def test_a_step_with_guidance_predicts_for_both_texts(desk, monkeypatch, tmp_path, rung):
    made, passes = desk(rung=rung), []
    forward = UNet3D.forward

    def noting(self, latents, timesteps, text, **options):
        if not latents.is_meta:  # the plan's passes are none
            passes.append((len(latents), text.features.shape[0]))
        return forward(self, latents, timesteps, text, **options)

    monkeypatch.setattr(UNet3D, "forward", noting)
    made.step(name="ours", size=SIZE, guided=True, save=str(tmp_path / "both.npy"))
    assert passes == ([(1, 1), (1, 1)] if rung == "halves" else [(1, 2)])
    latents, timesteps, text = worker._inputs(Size(*SIZE), TINY_CLIPS, guided=True)
    apart = [made._contenders["ours"].stepper(latents, timesteps, each)() for each in text.split(1)]
    assert measuring.difference(np.load(tmp_path / "both.npy"), torch.cat(apart).numpy()) < 1e-5
    assert measuring.difference(apart[0].numpy(), apart[1].numpy()) > 1e-3, "the texts make no difference"


def test_a_step_with_guidance_is_not_taken_for_one_without(desk, tmp_path):
    made = desk()
    for guided, count in ((False, 1), (True, 2), (False, 1)):
        made.step(name="ours", size=SIZE, guided=guided, save=str(tmp_path / "result.npy"))
        assert len(np.load(tmp_path / "result.npy")) == count


@pytest.fixture
def graphs(monkeypatch):
    """A CPU that has graphs, and its recorder."""
    recorder = Recorder()
    monkeypatch.setattr(launching, "traits_of", lambda device: Traits("cpu", "CPU", graphs=True))
    monkeypatch.setattr(graphed, "record_on_cuda", recorder)
    return recorder


def test_a_recorded_network_is_replayed_from_the_first_go_on(desk, graphs, tmp_path):
    made = desk("ours graphed")
    for go in range(3):
        made.step(name="ours graphed", size=SIZE, guided=True, save=str(tmp_path / "replayed.npy"))
        assert (graphs.recorded, graphs.replayed) == (1, 2 + go), "one of them before the first go"
    plain = desk()
    plain.step(name="ours", size=SIZE, guided=True, save=str(tmp_path / "plain.npy"))
    assert graphs.recorded == 1
    assert measuring.difference(*(np.load(tmp_path / f"{name}.npy") for name in ("replayed", "plain"))) < 1e-6
    made.generate(name="ours graphed", size=SIZE, steps=4, sampler="DDIM")
    assert (graphs.recorded, graphs.replayed) == (2, 4 + 3), "a shape that was recorded before needs one call as it is"


@pytest.mark.parametrize("name", WAYS)
def test_each_way_asks_for_what_its_name_says(tiny, name, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ours = worker.make(name, tiny, TINY_CLIPS, device="cpu", precision="fp32")
    rendered = []
    monkeypatch.setattr(ours._renderer, "render", lambda request, run: rendered.append(request))
    ours.load()
    assert (rendered[0].compile, rendered[0].cuda_graph) == (False, False), "nobody uses the code of this clip"
    request = ours._request()
    assert (request.compile, request.cuda_graph) == ("compiled" in name, "graphed" in name)
    assert ours.name == name


# --- what is said of the figures --------------------------------------------------------------------------------------


def does_not_compile(monkeypatch):
    monkeypatch.setattr(compiled, "why_not", lambda *args, **kwargs: "")
    monkeypatch.setattr(torch, "compile", lambda *args, **kwargs: 1 / 0)
    compiled._code_of.cache_clear()


def does_not_record(monkeypatch):
    monkeypatch.setattr(launching, "traits_of", lambda device: Traits("cpu", "CPU", graphs=True))
    monkeypatch.setattr(graphed, "record_on_cuda", Recorder(RuntimeError("operation not permitted when capturing")))


def nothing_more(monkeypatch):
    pass


@pytest.mark.parametrize(
    ("name", "because", "reason"),
    [
        ("ours compiled", nothing_more, "slower"),
        ("ours compiled", does_not_compile, "division by zero"),
        ("ours graphed", nothing_more, "no CUDA graphs"),
        ("ours graphed", does_not_record, "not permitted"),
        ("ours compiled graphed", does_not_record, "slower.*not permitted"),
    ],
)
def test_a_network_that_runs_as_it_is_has_no_figures_under_another_name(desk, monkeypatch, name, because, reason):
    because(monkeypatch)
    made = desk(name)
    with pytest.raises(FallbackError, match=reason):
        made.step(name=name, size=SIZE)
    with pytest.raises(FallbackError, match=reason):
        made.generate(name=name, size=SIZE, steps=WARM_UP + 1, sampler="DDIM")


def test_a_network_that_saves_memory_by_slices_is_not_taken_for_a_recorded_one(desk, graphs):
    with pytest.raises(FallbackError, match="slices"):
        desk("ours graphed", rung="slices").step(name="ours graphed", size=SIZE)
    assert not graphs.recorded


def test_a_wider_number_format_is_said_of_all_that_comes_after(desk, monkeypatch):
    made = desk(precision="bf16")
    assert made.step(name="ours", size=SIZE)["said"] == []
    to_pictures, spoilt = Autoencoder.decode, [1]

    def decode(self, latents):
        return to_pictures(self, latents) * (torch.nan if spoilt and not spoilt.clear() else 1)

    monkeypatch.setattr(Autoencoder, "decode", decode)
    first, second = (made.decode(name="ours", size=SIZE)["said"] for _ in range(2))
    assert "NaN" in first[0]
    assert first[1:] == second == ["The UNet computes in bf16, the autoencoder in fp32."]
