"""The side-by-side benchmark: it runs, its figures are sane, and what it counts and draws is right."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from model_layouts import TINY
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.compare import (
    command,
    document,
    estimate,
    flops,
    limits,
    options,
    picture,
    processes,
    results,
    table,
    weights,
    worker,
)
from benchmarks.compare.cases import STEP, Case
from benchmarks.compare.results import Results, Row, Session
from benchmarks.compare.sizes import FULL, SMALL, Size, parse_size
from benchmarks.compare.weights import DIFFUSERS, ORIGINAL, build
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import AutoencoderConfig, TextConfig
from t2v_core.rendering import local_model
from t2v_core.rendering.local_model import LocalModel

# As small as can be, with the pixels and the tokens of the full size.
TINY_MODEL = dataclasses.replace(
    TINY,
    vae=AutoencoderConfig(dim=16, res_blocks=1, norm_groups=8),
    text=TextConfig(width=32, layers=3, heads=2),
)

HAS_PEERS = all(importlib.util.find_spec(name) for name in ("diffusers", "modelscope", "transformers"))

SESSION = Session(
    id="2026-01-02T03:04:05+00:00",
    command="python -m benchmarks compare",
    commit="abc",
    machine={"processor": "A processor", "cores": 2, "threads": 2, "memory": 8e9, "torch": "2.9"},
    limits={"fp32": {"flops": 1e12, "by": "torch.mm", "copy": 1e10}},
)


def row(contender: str, *taken: float, session: str = SESSION.id, what: str = STEP, **rest) -> Row:
    title = "UNet step, 16 frames of 256×256"
    return Row(what, title, "256x256x16", "fp32", contender, session, tuple(taken), limit=1.0, **rest)


# --- the whole command ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    flags = ["--small", "--device", "cpu", "--threads", "1", "--rounds", "1", "--precisions", "fp32", "--no-memory"]
    flags += [
        "--memory",
        "text",
        "--what",
        "step,end-to-end",
        "--folder",
        str(folder),
        "--json",
        str(folder / "results.json"),
    ]
    assert command.main(flags) == 0
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not HAS_PEERS, reason="diffusers, transformers and modelscope are the others")
def test_everybody_is_measured_and_gives_the_same(small):
    found = {(each["what"], each["contender"]): each for each in small["rows"]}
    assert {name for _, name in found} == {"ours", "Diffusers", "ModelScope"}
    for (what, name), each in found.items():
        assert each["skipped"] == "", name
        assert len(each["seconds"]) == 1
        assert 0.0005 < each["seconds"][0] < 300
        # 8 bits of a frame are 2e-3 of its norm.
        assert each["error"] < (5e-3 if what == "end-to-end" else 1e-5), (what, name)
        assert each["limit"] is not None
        assert each["seconds"][0] > 0.5 * each["limit"], "nobody is faster than the machine"
    assert all(0 < each["sampling"][0] < each["seconds"][0] for each in small["rows"] if each["what"] == "end-to-end")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not HAS_PEERS, reason="diffusers, transformers and modelscope are the others")
def test_the_machine_is_named(small):
    (session,) = small["sessions"]
    assert " --memory text " in session["command"]
    assert session["machine"]["processor"]
    assert session["machine"]["torch"] == torch.__version__
    assert session["machine"]["diffusers"]
    assert session["limits"]["fp32"]["flops"] > 1e8


@pytest.mark.parametrize(("flags", "rung"), [([], "auto"), (["--memory", "text"], "text")])
def test_ours_saves_memory_as_it_is_told(tmp_path, monkeypatch, flags, rung):
    wish = options.wish_of(
        options.parser().parse_args(["--small", "--device", "cpu", "--folder", str(tmp_path), *flags])
    )
    given = {"device": "cpu", "precision": "fp32", "rung": wish.bench.rung}
    ours = worker.make("ours", tmp_path, wish.bench.config, **given)
    monkeypatch.setattr(ours._renderer, "resolve", lambda request: request)
    assert ours._request(frames=2).memory == rung


def test_a_rung_that_there_is_none_of_is_refused(capsys):
    with pytest.raises(SystemExit):
        options.parser().parse_args(["--memory", "less"])
    assert "'text'" in capsys.readouterr().err


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relative", [False, True])
def test_a_process_finds_our_code_first_and_what_its_starter_finds(tmp_path, monkeypatch, relative):
    carried = tmp_path / "carried"
    for name in ("only_carried", "benchmarks"):
        (carried / name).mkdir(parents=True)
        (carried / name / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", carried.name if relative else str(carried)]))
    popen = subprocess.Popen
    says = """if True:
        import benchmarks, json, only_carried, os
        print(json.dumps({}))
        print(json.dumps({"code": benchmarks.__file__, "cache": os.environ["XDG_CACHE_HOME"]}))
    """
    monkeypatch.setattr(
        processes.subprocess, "Popen", lambda command, **given: popen([sys.executable, "-c", says], **given)
    )
    with processes.Worker(processes.Bench(tmp_path, SMALL, "cpu"), "fp32") as started:
        assert started.machine["code"] == str(processes.ROOT / "benchmarks" / "__init__.py")
        assert started.machine["cache"] == str(tmp_path / "cache")


# --- weights ----------------------------------------------------------------------------------------------------------


def wish(*flags: str, folder) -> options.Wish:
    return options.wish_of(options.parser().parse_args(["--device", "cpu", "--small", "--folder", str(folder), *flags]))


def test_a_layout_is_written_once_and_only_if_it_is_wanted(tmp_path):
    weights.write(tmp_path, TINY_MODEL, [ORIGINAL])
    assert {path.name for path in tmp_path.iterdir()} == {ORIGINAL, "written.json"}
    file = tmp_path / ORIGINAL / TINY_MODEL.files.unet
    written = file.stat().st_mtime_ns
    pytest.importorskip("diffusers")
    weights.write(tmp_path, TINY_MODEL)
    assert len(list((tmp_path / DIFFUSERS).rglob("*.safetensors"))) == len(Part)
    weights.write(tmp_path, TINY_MODEL)
    assert file.stat().st_mtime_ns == written
    weights.write(tmp_path, dataclasses.replace(TINY_MODEL, text=TextConfig(width=32, layers=2, heads=2)), [ORIGINAL])
    assert file.stat().st_mtime_ns > written


@pytest.mark.parametrize(
    ("flags", "layouts"),
    [
        (["--what", "step,decode"], {ORIGINAL}),
        (["--what", "end-to-end", "--no-memory"], {ORIGINAL}),
        (["--what", "end-to-end"], {ORIGINAL, DIFFUSERS}),
        (["--what", "load"], {ORIGINAL, DIFFUSERS}),
        (["--what", "load", "--contenders", "ours"], {ORIGINAL}),
    ],
)
def test_what_nobody_loads_is_not_written(tmp_path, monkeypatch, flags, layouts):
    monkeypatch.setattr(options.importlib.util, "find_spec", lambda name: True)
    assert set(wish(*flags, folder=tmp_path).layouts) == layouts


# --- what the clock sees of ours --------------------------------------------------------------------------------------

SIZE = [2, 64, 64, 1]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    weights.write(folder, TINY_MODEL, [ORIGINAL])
    return folder


@pytest.fixture
def desk(tiny, tmp_path, monkeypatch):
    """Makes a process' desk with one contender on it, in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    given = {"device": "cpu", "precision": "fp32", "config": TINY_MODEL.to_dict(), "threads": 0}

    def make(name="ours", rung="auto"):
        made = worker.Desk(folder=str(tiny), rung=rung, **given)
        made.prepare(names=[name])
        return made

    return make


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
    remembered = local_model.RememberedText

    def remember(*args):
        seen.texts += 1
        return remembered(*args)

    monkeypatch.setattr(local_model, "RememberedText", remember)
    return seen


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


def test_a_model_that_was_given_up_for_want_of_memory_is_loaded_again(desk):
    made = desk()
    made._contenders["ours"]._renderer._model = None
    assert made.step(name="ours", size=SIZE)["seconds"] > 0


# --- arithmetic -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "known"),
    [(Size(8, 128, 128), 0.623), (Size(16, 256, 256), 4.887), (Size(24, 256, 256), 7.336), (Size(16, 576, 320), 14.25),
     (Size(24, 1024, 576), 78.5)],
)  # fmt: skip
def test_a_step_has_the_arithmetic_that_is_known(size, known):
    assert flops.unet(FULL.unet, size) / 1e12 == pytest.approx(known, rel=1e-3)


def test_decoding_has_the_arithmetic_that_is_known():
    assert flops.decoder(FULL.vae, Size(16, 256, 256)) / 16e12 == pytest.approx(0.622, rel=1e-3)


def counted(part: Part, method: str, *inputs) -> float:
    network = build(part, SMALL)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        getattr(network, method)(*(value.to("meta") for value in inputs))
    return counter.get_total_flops()


@pytest.mark.parametrize("size", [Size(3, 64, 64), Size(5, 128, 64, batch=2)])
def test_our_count_of_the_decoder_is_torchs(size):
    batch, channels, frames, height, width = size.latents
    latents = torch.empty(batch * frames, channels, height, width)
    assert counted(Part.AUTOENCODER, "decode", latents) == flops.decoder(SMALL.vae, size)


@pytest.mark.parametrize("size", [Size(3, 64, 64), Size(5, 128, 64, batch=2)])
def test_our_count_of_a_step_is_torchs_of_diffusers_network(size):
    code = pytest.importorskip("benchmarks.compare.diffusers_code")
    network = code.build(Part.UNET, SMALL)
    inputs = torch.empty(size.latents), torch.ones(size.batch), torch.empty(size.batch, 77, 1024)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*(value.to("meta") for value in inputs))
    # It repeats the timestep's few products for each frame, which in a network this small is seen.
    assert counter.get_total_flops() == pytest.approx(flops.unet(SMALL.unet, size), rel=2e-3)


def test_the_peak_is_a_rate():
    rate, by = limits.matrix_peak("cpu", torch.float32, small=True)
    assert 1e8 < rate < 1e14
    assert by


def test_what_does_not_fit_is_known_before():
    big = Case(STEP, Size(24, 1024, 576))
    needed = {
        name: estimate.memory_needed(big, FULL, contender=name, precision="fp32") for name in ("ours", "ModelScope")
    }
    assert needed["ModelScope"] > 30e9, "it keeps all attention scores of 9,216 places"
    assert needed["ours"] < needed["ModelScope"] / 2


def test_an_exponent_is_found_again():
    assert estimate.fitted_exponent([1, 2, 4, 8], [3, 3 * 2**1.2, 3 * 4**1.2, 3 * 8**1.2]) == pytest.approx(1.2)


@pytest.mark.parametrize("text", ["256x256", "256x256x0", "100x256x16", "axbxc", "0x0x1"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="x"):
        parse_size(text)


# --- figures that are kept --------------------------------------------------------------------------------------------


def test_newer_figures_take_the_place_of_the_whole_case(tmp_path):
    kept = Results()
    kept.add(SESSION, [row("ours", 2.0, 4.0, 3.0), row("Diffusers", 6.0), row("ours", 9.0, what="decode")])
    newer = dataclasses.replace(SESSION, id="2026-02-02T03:04:05+00:00")
    kept.add(newer, [row("ours", 1.0, session=newer.id)])
    kept.add(newer, [row("ours", session=newer.id, what="decode", skipped="no time")])
    kept.write(tmp_path / "kept.json")
    again = results.read(tmp_path / "kept.json")
    assert again.rows == kept.rows
    assert [(each.what, each.contender, each.median) for each in again.rows] == [
        ("decode", "ours", 9.0),
        ("step", "ours", 1.0),
    ]
    assert set(again.sessions) == {SESSION.id, newer.id}


def test_what_was_measured_on_another_machine_stays(tmp_path):
    kept = Results()
    kept.add(SESSION, [row("ours", 3.0)])
    processor = {**SESSION.machine, "processor": "Intel(R) Xeon(R) Processor", "tiles": True}
    elsewhere = dataclasses.replace(SESSION, id="2026-02-02T03:04:05+00:00", machine=processor)
    kept.add(elsewhere, [row("ours", 1.0, session=elsewhere.id)])
    kept.add(elsewhere, [row("ours", 2.0, session=elsewhere.id)])
    assert kept.devices() == ["A processor", "Intel Xeon with AMX"]
    assert [[each.median for each in kept.on(device).rows] for device in kept.devices()] == [[3.0], [2.0]]
    assert "2.00" in table.console(kept, elsewhere)
    assert "3.00" not in table.console(kept, elsewhere)


def test_the_table_says_the_share_and_the_limit():
    rows = [row("ours", 2.0, 4.0, 3.0, peak=5_000_000_000, error=1e-6, against="Diffusers"), row("Diffusers", 6.0)]
    lines = table.markdown([rows]).splitlines()
    assert "| **ours** | 3.00 |  | 3.00 | 5.00 GB |" in lines[2]
    assert "| Diffusers | 6.00 | 0.50 × | 6.00 |" in lines[3]


def test_what_was_skipped_is_said_on_the_console():
    kept = Results()
    kept.add(SESSION, [row("ours", 2.0), row("ModelScope", skipped="needs about 300 GB")])
    assert "skipped: ModelScope: needs about 300 GB" in table.console(kept, SESSION)


def test_the_picture_is_well_formed_and_to_scale():
    drawn = picture.draw([[row("ours", 2.0), row("Diffusers", 4.0)]], heading="<Time & more>", note="A processor")
    root = ET.fromstring(drawn)
    bars = {
        each.get("class"): float(each.get("width")) for each in root.iter() if each.get("class") in {"ours", "theirs"}
    }
    assert bars["theirs"] == pytest.approx(2 * bars["ours"], rel=1e-3)
    assert "prefers-color-scheme: dark" in drawn


def test_the_page_has_a_place_for_each_part():
    text = document.PAGE.read_text(encoding="utf-8")
    for name in ("how-long", "compare", "scaling"):
        assert "a table" in document.put(text, name, "a table")
    with pytest.raises(ValueError, match="0 places"):
        document.put(text, "what", "a table")


def test_a_clip_of_more_steps_takes_longer_by_its_sampling_alone():
    clip = row("ours", 60.0, what="end-to-end", sampling=(40.0,), steps=4)
    assert document.usual_seconds(clip) == pytest.approx(20 + 40 / 4 * 25)
