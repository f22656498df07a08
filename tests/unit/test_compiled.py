"""Compiled and recorded networks: the same numbers, and where it doesn't work one line and the network as it is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from model_layouts import TINY, random_states
from recorder import Recorder
from torch import nn

from t2v_core.models import cpu_kernels
from t2v_core.models.catalogue import DEMO
from t2v_core.models.modelscope.attention import FeedForward
from t2v_core.models.modelscope.blocks import ResidualBlock
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.rendering import compiled as compiled_module
from t2v_core.rendering import graphed as graphed_module
from t2v_core.rendering import launching
from t2v_core.rendering import plain_attention as plain_module
from t2v_core.rendering.compiled import COMPILED, compiled, why_not
from t2v_core.rendering.devices import Traits, traits_of
from t2v_core.rendering.graphed import WARM_UP, Graphed
from t2v_core.rendering.local import LocalRenderer
from t2v_core.rendering.upcast import widen_on_use
from t2v_core.request import GenerationRequest
from t2v_core.run import Notice, Run


@pytest.fixture
def unet():
    network = UNet3D(TINY.unet)
    network.load_state_dict(random_states(TINY)[Part.UNET], strict=True, assign=True)
    return network.requires_grad_(False).eval()


@pytest.fixture
def said():
    return []


def compiling(device):
    return traits_of(device) if device == "cpu" else Traits(device, device.upper(), compiles=True)


@pytest.fixture(autouse=True)
def _a_device_with_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiled_module, "traits_of", compiling)
    compiled_module._code_of.cache_clear()
    yield
    compiled_module._code_of.cache_clear()


def inputs():
    return torch.randn(2, 4, 3, 8, 8), torch.tensor([5.0, 5.0]), torch.randn(2, 77, 32)


def eager_compiler(calls):
    def compile(function, **options):
        assert options == {"dynamic": False}

        def call(*args, **kwargs):
            calls.append(type(args[0]))
            return function(*args, **kwargs)

        return call

    return compile


@torch.no_grad()
def test_each_block_without_text_goes_to_the_code_of_its_kind(unet, said, monkeypatch):
    calls, made = [], []
    given = inputs()
    expected = unet(*given)
    compiler = eager_compiler(calls)
    monkeypatch.setattr(torch, "compile", lambda function, **options: made.append(1) or compiler(function, **options))
    with compiled(unet, device="cuda", wanted=True, report=said.append):
        assert torch.equal(unet(*given), expected)
    assert len(made) == len(COMPILED)
    assert set(calls) == set(COMPILED)
    assert calls.count(ResidualBlock) == sum(isinstance(block, ResidualBlock) for block in unet.modules())
    assert 0 < calls.count(FeedForward) < sum(isinstance(block, FeedForward) for block in unet.modules())
    assert not said
    count = len(calls)
    unet(*given)
    assert len(calls) == count  # only within the block


@pytest.mark.parametrize("at_once", [True, False], ids=["no compiler", "no C compiler, said by the first call"])
@torch.no_grad()
def test_where_compiling_fails_the_network_runs_as_it_is_and_says_so_once(unet, said, monkeypatch, at_once):
    def broken(*args, **kwargs):
        raise RuntimeError("Failed to find C compiler.\nAnd much more")

    given = inputs()
    expected = unet(*given)
    monkeypatch.setattr(torch, "compile", broken if at_once else lambda function, **_: broken)
    with compiled(unet, device="cuda", wanted=True, report=said.append) as fallback:
        assert torch.equal(unet(*given), expected)
        assert torch.equal(unet(*given), expected)
    assert fallback.has_failed
    assert said == ["The network couldn't be compiled, and runs as it is: Failed to find C compiler."]


@torch.no_grad()
def test_too_little_memory_is_no_failure_of_the_compiler(unet, said, monkeypatch):
    def full(*args, **kwargs):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(torch, "compile", lambda function, **_: full)
    run = compiled(unet, device="cuda", wanted=True, report=said.append)
    with run as fallback, pytest.raises(RuntimeError, match="out of memory"):
        unet(*inputs())
    assert not fallback.has_failed


@pytest.mark.parametrize(
    ("traits", "reason"),
    [
        (Traits("cpu", "CPU", compiles=True), "slower"),
        (Traits("mps", "MPS"), "MPS"),
        (Traits("privateuseone", "DirectML"), "DirectML"),
    ],
    ids=lambda it: getattr(it, "label", ""),
)
def test_a_device_without_a_compiler_is_not_tried(unet, said, monkeypatch, traits, reason):
    monkeypatch.setattr(compiled_module, "traits_of", lambda device: traits)
    with compiled(unet, device="x", wanted=True, report=said.append) as fallback:
        assert fallback is None
    assert reason in said[0]
    with compiled(unet, device="x", wanted=False, report=said.append) as fallback:
        assert fallback is None
    assert len(said) == 1


def test_weights_that_are_widened_while_they_are_used_are_not_compiled(unet):
    assert why_not(unet, device="cuda") == ""
    widen_on_use(unet.bfloat16(), torch.float32)
    assert "widened" in why_not(unet, device="cuda")


def test_the_results_are_kept_in_our_own_folder_unless_the_user_chose_one(unet, said, monkeypatch, tmp_path):
    import os

    for before, after in (("/tmp/torchinductor_me", tmp_path / "txt2video" / "compiled"), ("/chosen", "/chosen")):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", before)
        monkeypatch.setattr(compiled_module.tempfile, "gettempdir", lambda: "/tmp")
        with compiled(unet, device="cuda", wanted=True, report=said.append):
            assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(after)


@torch.no_grad()
def test_a_recorded_network_gives_the_same_for_other_latents_times_and_texts(unet, said):
    recorder = Recorder()
    graphed = Graphed(unet, report=said.append, record=recorder)
    texts = torch.randn(2, 77, 32), torch.randn(2, 77, 32)
    outputs = []
    for step in range(6):
        given = torch.randn(2, 4, 3, 8, 8), torch.full((2,), 100.0 * step), texts[step // 3]
        outputs.append((graphed(*given), unet(*given)))
    assert recorder.recorded == 2
    assert recorder.replayed == 6 - WARM_UP - 1, "the second text has but its keys and values to make"
    assert [earlier is None for earlier in recorder.earlier] == [True, False], "they share their memory"
    for found, expected in outputs:  # none was overwritten by a later one
        assert torch.allclose(found, expected, atol=1e-6)
    assert not said


@torch.no_grad()
def test_another_shape_is_another_recording(unet, said):
    recorder = Recorder()
    graphed = Graphed(unet, report=said.append, record=recorder)
    text = torch.randn(1, 77, 32)
    for frames in (2, 2, 3, 3, 2, 3):
        given = torch.randn(1, 4, frames, 8, 8), torch.tensor([7.0]), text
        assert torch.allclose(graphed(*given), unet(*given), atol=1e-6)
    assert (recorder.recorded, recorder.replayed) == (2, 2)


@torch.no_grad()
def test_what_is_forgotten_is_recorded_again_after_fewer_calls(unet, said):
    recorder = Recorder()
    graphed, given = Graphed(unet, report=said.append, record=recorder), inputs()
    for expected in [0] * WARM_UP + [1, 2]:
        assert torch.allclose(graphed(*given), unet(*given), atol=1e-6)
        assert recorder.replayed == expected
    graphed.forget()
    assert not graphed._recordings
    for expected in (2, 3):
        assert torch.allclose(graphed(*given), unet(*given), atol=1e-6)
        assert recorder.replayed == expected
    assert recorder.recorded == 2


@torch.no_grad()
def test_where_recording_fails_the_network_runs_as_it_is_and_says_so_once(unet, said):
    graphed = Graphed(unet, report=said.append, record=Recorder(RuntimeError("operation not permitted when capturing")))
    given = inputs()
    for _ in range(5):
        assert torch.equal(graphed(*given), unet(*given))
    assert len(said) == 1
    assert "not permitted" in said[0]


def test_without_a_gpu_recording_fails_in_words(said):
    graphed, text = Graphed(lambda *given: given[0] * 2, report=said.append), torch.ones(1)
    for _ in range(4):
        assert graphed(*inputs()[:2], text).shape == (2, 4, 3, 8, 8)
    assert len(said) == 1


@pytest.mark.full_size
@pytest.mark.filterwarnings("ignore")
def test_torch_really_compiles_the_blocks(said, monkeypatch):
    """With the C++ compiler of this machine; minutes."""
    monkeypatch.setattr(cpu_kernels, "usable", lambda dtype: False)
    monkeypatch.setattr(compiled_module, "why_not", lambda *args, **kwargs: "")
    block = ResidualBlock(32, 32, time_dim=64, norm_groups=8, dropout=0.0).requires_grad_(False).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.1)
    network = nn.ModuleList([block])
    given = torch.randn(6, 32, 8, 8), torch.randn(2, 64), 3
    with torch.inference_mode():
        expected = block(given[0].clone(), *given[1:])
        for _ in range(2):
            with compiled(network, device="cpu", wanted=True, report=said.append) as fallback:
                assert torch.allclose(block(given[0].clone(), *given[1:]), expected, atol=1e-5)
            assert not fallback.has_failed, said


REQUEST = GenerationRequest(
    prompt="a red ball", model=DEMO, seed=3, steps=4, frames=2, width=64, height=64, precision="fp32"
)


def render(host, said, **changes):
    def listen(event):
        if isinstance(event, Notice):
            said.append(event.message)

    renderer = LocalRenderer(host)
    return renderer.render(renderer.resolve(dataclasses.replace(REQUEST, **changes)), Run(listen))


def test_what_was_asked_and_does_not_work_here_is_said_and_not_in_the_recipe(host, said):
    ordinary = render(host, said)
    assert not said
    video = render(host, said, compile=True, cuda_graph=True)
    assert len(said) == 2
    assert "Compiled" not in video.notes
    assert np.array_equal(video.frames, ordinary.frames)


def test_a_video_is_made_with_compiled_blocks_and_a_recording(host, said, monkeypatch):
    ordinary, calls, recorder = render(host, said), [], Recorder()
    monkeypatch.setattr(torch, "compile", eager_compiler(calls))
    monkeypatch.setattr(compiled_module, "why_not", lambda *args, **kwargs: "")
    monkeypatch.setattr(launching, "traits_of", lambda device: Traits("cpu", "CPU", graphs=True))
    monkeypatch.setattr(graphed_module, "record_on_cuda", recorder)
    video = render(host, said, compile=True, cuda_graph=True)
    assert np.array_equal(video.frames, ordinary.frames)
    assert video.notes["Compiled"] == "blocks"
    assert (recorder.recorded, recorder.replayed) == (1, 2)
    assert calls
    assert not said


def test_attention_is_computed_as_asked(host, said, monkeypatch):
    ordinary, made = render(host, said), []
    plain = plain_module.plain_attention
    monkeypatch.setattr(plain_module, "plain_attention", lambda *a, **k: made.append(1) or plain(*a, **k))
    video = render(host, said, attention="plain")
    assert made
    assert np.abs(np.asarray(video.frames).astype(int) - np.asarray(ordinary.frames)).max() <= 1
    assert video.request.attention == "plain"
