"""The side-by-side benchmark: it runs, asks for what it is told, and what it counts is right."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.compare import command, estimate, flops, limits, measuring, options, processes, results, worker
from benchmarks.compare.cases import END_TO_END, GUIDED, STEP, WHATS, Case
from benchmarks.compare.results import WAYS
from benchmarks.compare.sizes import FULL, SMALL, Size, parse_size
from benchmarks.compare.weights import DIFFUSERS, ORIGINAL, build
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.rendering import devices

HAS_PEERS = all(importlib.util.find_spec(name) for name in ("diffusers", "modelscope", "transformers"))


def wish(*flags: str, folder) -> options.Wish:
    return options.wish_of(options.parser().parse_args(["--device", "cpu", "--small", "--folder", str(folder), *flags]))


# --- the whole command ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    flags = ["--small", "--device", "cpu", "--threads", "1", "--rounds", "1", "--precisions", "fp32", "--no-memory"]
    flags += [
        "--memory",
        "text",
        "--what",
        "step,guided-step,end-to-end",
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


# --- what is wanted ---------------------------------------------------------------------------------------------------


def test_only_a_gpu_has_several_ways_and_steps_with_guidance_by_default(tmp_path, monkeypatch):
    monkeypatch.setattr(options.importlib.util, "find_spec", lambda name: True)
    on_cpu, on_gpu = wish(folder=tmp_path), wish("--device", "cuda", folder=tmp_path)
    assert on_cpu.contenders == ("ours", *options.PEERS)
    assert on_gpu.contenders == (*WAYS, *options.PEERS)
    assert {case.what for case in on_cpu.cases} == set(WHATS) - {GUIDED}
    assert {case.what for case in on_gpu.cases} == set(WHATS)
    for case in on_gpu.cases:
        has_unet = case.what in {STEP, GUIDED, END_TO_END}
        assert on_gpu.who(case) == ((*WAYS, *options.PEERS) if has_unet else ("ours", *options.PEERS))
    full = options.wish_of(options.parser().parse_args(["--device", "cuda", "--folder", str(tmp_path)]))
    assert Case(GUIDED, Size(16, 256, 256)) in full.cases
    assert Case(GUIDED, wish("--what", GUIDED, folder=tmp_path).cases[0].size) in on_gpu.cases


@pytest.mark.parametrize("flags", [["--what", "steps"], ["--contenders", "ours,ours fast"], ["--precisions", "fp8"]])
def test_what_nobody_knows_is_refused_before_anything_is_measured(capsys, flags):
    with pytest.raises(SystemExit):
        options.parser().parse_args(flags)
    assert f"{flags[1].split(',')[-1]!r} is none of" in capsys.readouterr().err


@pytest.mark.parametrize(("device", "together"), [("cpu", True), ("cuda", False)])
def test_a_gpu_is_reckoned_to_keep_what_each_process_took(tmp_path, monkeypatch, device, together):
    asked, case = wish("--device", device, "--no-memory", folder=tmp_path), Case(STEP, Size(24, 1024, 576))
    seen = []
    monkeypatch.setattr(measuring, "take_turns", lambda *args, **given: seen.append(given) or {})
    config = asked.bench.config
    needs = [estimate.memory_needed(case, config, contender=name, precision="fp32") for name in ("ours", "Diffusers")]
    weight = estimate.weight_bytes(config, "fp32") + 0.5e9
    free = int(2 * weight + max(needs) + min(needs) / 2 + command._KEPT_FREE)
    command._time(case, asked, None, "fp32", who=["ours", "Diffusers"], free=free, until=1e9)
    assert seen[0]["together"] is together
    assert list(seen[0]["groups"]) == [["ours"], ["Diffusers"]]


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


# --- what was seen ----------------------------------------------------------------------------------------------------


class AnsweringPool:
    """Stands for the processes: each answer is what a contender's turn gives, an error or what it says."""

    def __init__(self, folder, **says):
        self.folder, self.asked, self.says = folder, [], says

    def worker(self, names):
        return self

    def ask(self, do, *, name, save, **rest):
        self.asked.append(name)
        answer = self.says[name](self.asked.count(name))
        if isinstance(answer, Exception):
            raise answer
        if save:
            np.save(save, np.ones(3, dtype=np.float32))
        return {"seconds": 1.0, "said": answer}


def test_what_is_said_is_kept_once_and_who_fell_back_has_no_figures(tmp_path):
    fallback = processes.WorkerError("FallbackError: The network couldn't be recorded")
    pool = AnsweringPool(tmp_path, ours=lambda go: ["Less memory."] if go < 3 else [], graphed=lambda go: fallback)
    found = measuring.take_turns(
        pool, Case(STEP, Size(16, 256, 256)), groups=[["ours"], ["graphed"]], rounds=3, together=True
    )
    assert pool.asked.count("ours") == 4
    assert pool.asked.count("graphed") == 1
    assert (found["ours"].said, found["ours"].seconds) == (["Less memory."], [1.0] * 3)
    assert (found["graphed"].problem, found["graphed"].seconds) == (str(fallback), [])


def test_no_round_begins_after_the_time_but_the_first(tmp_path):
    pool = AnsweringPool(tmp_path, ours=lambda go: [], theirs=lambda go: [])
    case, groups = Case(STEP, Size(16, 256, 256)), [["ours"], ["theirs"]]
    found = measuring.take_turns(pool, case, groups=groups, rounds=3, together=True, until=time.perf_counter())
    assert [len(each.seconds) for each in found.values()] == [1, 1]
    found = measuring.take_turns(pool, case, groups=groups, rounds=3, together=True, until=time.perf_counter() + 60)
    assert [len(each.seconds) for each in found.values()] == [3, 3]


class PoolWithoutProcesses:
    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def limits(self):
        return {"flops": 1e12, "by": "torch.mm", "copy": 1e10, "machine": {"threads": 2, "torch": "2.9", "free": 1e11}}


def test_what_was_measured_is_kept_when_a_later_case_ends_it_all(tmp_path, monkeypatch):
    def take_turns(pool, case, **given):
        if case.what == GUIDED:
            raise KeyboardInterrupt
        return {"ours": measuring.Found(seconds=[2.0])}

    monkeypatch.setattr(command, "Pool", PoolWithoutProcesses)
    monkeypatch.setattr(command.weights, "write", lambda *_: None)
    monkeypatch.setattr(measuring, "take_turns", take_turns)
    flags = ["--device", "cpu", "--small", "--no-memory", "--folder", str(tmp_path), "--json", str(tmp_path / "kept")]
    with pytest.raises(KeyboardInterrupt):
        command.main([*flags, "--what", "step,guided-step", "--contenders", "ours,ours graphed"])
    kept = results.read(tmp_path / "kept")
    assert {each.what for each in kept.rows} == {STEP}
    assert {each.contender: each.seconds for each in kept.rows}["ours"] == (2.0,)
    (session,) = kept.sessions.values()
    assert session.limits["fp32"]["flops"] == 1e12
    assert session.command.endswith("--contenders 'ours,ours graphed'"), "it can be pasted into a shell"


def test_writing_the_weights_counts_for_the_time(tmp_path, monkeypatch):
    now, seen = [1000.0], []
    monkeypatch.setattr(command.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(command.weights, "write", lambda *_: now.append(now.pop() + 50))
    monkeypatch.setattr(command, "_measure", lambda *_, until: seen.append(until - now[0]) or [])
    monkeypatch.setattr(command.table, "console", lambda *_: "")
    command.main(["--device", "cpu", "--small", "--folder", str(tmp_path), "--json", str(tmp_path / "kept"),
                  "--time", "2", "--precisions", "fp32"])  # fmt: skip
    assert seen == [70]


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
        print(json.dumps({}), flush=True)
        input()
        print(json.dumps({"code": benchmarks.__file__, "cache": os.environ["XDG_CACHE_HOME"]}))
    """
    monkeypatch.setattr(
        processes.subprocess, "Popen", lambda command, **given: popen([sys.executable, "-c", says], **given)
    )
    with processes.Worker(processes.Bench(tmp_path, SMALL, "cpu"), "fp32") as started:
        assert started.machine["code"] == str(processes.ROOT / "benchmarks" / "__init__.py")
        assert started.machine["cache"] == str(tmp_path / "cache")


# --- arithmetic -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "known"),
    [(Size(8, 128, 128), 0.623), (Size(16, 256, 256), 4.887), (Size(24, 256, 256), 7.336), (Size(16, 576, 320), 14.25),
     (Size(24, 1024, 576), 78.5)],
)  # fmt: skip
def test_a_step_has_the_arithmetic_that_is_known(size, known):
    assert flops.unet(FULL.unet, size) / 1e12 == pytest.approx(known, rel=1e-3)


def test_the_limit_of_a_step_with_guidance_is_that_of_two():
    size = Size(16, 256, 256)
    guided, plain = Case(GUIDED, size), Case(STEP, size)
    assert estimate.arithmetic(guided, FULL) == 2 * estimate.arithmetic(plain, FULL)
    assert guided.question == {**plain.question, "guided": True}
    needed = [estimate.memory_needed(case, FULL, contender="ours", precision="bf16") for case in (plain, guided)]
    assert needed[0] < needed[1] < 2 * needed[0]


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


@pytest.mark.parametrize(("seconds", "calls"), [(0.1, 6), (8.0, 1)])
def test_a_product_that_takes_long_is_measured_once(seconds, calls, monkeypatch):
    ends = []
    monkeypatch.setattr(limits.time, "perf_counter", lambda: seconds * len(ends))
    assert limits._fastest(lambda: ends.append(1), device="cpu") == pytest.approx(seconds)
    assert len(ends) == calls


@pytest.mark.parametrize(("computes", "usual"), [(("fp32",), ("fp32",)), (("fp32", "bf16"), ("fp32", "bf16"))])
def test_a_processor_is_measured_in_what_it_multiplies(computes, usual, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "traits_of", lambda device: devices.Traits("cpu", "CPU", computes=computes))
    assert wish(folder=tmp_path).precisions == usual


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
