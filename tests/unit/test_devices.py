"""What devices lack, pretended on the CPU: a video is made all the same, and it is the same one."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from t2v_core.errors import RequestError
from t2v_core.hosts.standalone import StandaloneHost
from t2v_core.models.catalogue import DEMO
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.rendering import devices, local
from t2v_core.rendering.devices import Traits, is_out_of_memory, kind_of, on_device, traits_of
from t2v_core.rendering.local import LocalRenderer
from t2v_core.rendering.plain_attention import PlainAttention, plain_attention
from t2v_core.rendering.plan import Rest, resolve_precision
from t2v_core.request import GenerationRequest
from t2v_core.run import Run

REQUEST = GenerationRequest(
    prompt="a red ball moving left", seed=3, model=DEMO, steps=2, frames=3, width=64, height=64, precision="fp32"
)


@pytest.fixture(autouse=True)
def _fresh_traits(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    traits_of.cache_clear()
    yield
    traits_of.cache_clear()


class Without(TorchFunctionMode):
    """A torch in which some functions aren't there."""

    def __init__(self, *missing):
        super().__init__()
        self.missing = missing

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in self.missing:
            raise NotImplementedError(f"{func.__name__} isn't implemented for this device")
        return func(*args, **(kwargs or {}))


def tensors_in(values):
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)


class Refusing(TorchDispatchMode):
    """A device that refuses every operation on tensors of which `wrong` is true."""

    def __init__(self, wrong, *, only=""):
        super().__init__()
        self.wrong = wrong
        self.only = only

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        met = [*tensors_in(args), *tensors_in([result])]
        if self.only in str(func) and any(self.wrong(tensor) for tensor in met):
            raise RuntimeError(f"{func} is not supported on this device")
        return result


def video(host, request=REQUEST):
    renderer = LocalRenderer(host)
    return renderer.render(renderer.resolve(request), Run()).frames[:]


LACKS = {
    "attention": lambda: Without(F.scaled_dot_product_attention),
    "three-dimensional convolutions": lambda: Without(F.conv3d, torch.conv3d),
    "numbers of 64 bits": lambda: Refusing(lambda tensor: tensor.dtype is torch.float64),
    "inference mode": lambda: Refusing(torch.Tensor.is_inference),
}


@pytest.mark.parametrize("lack", LACKS)
def test_without_it_the_same_video_is_made(host, lack):
    ordinary = video(host)
    assert ordinary.std() > 10
    traits_of.cache_clear()
    with LACKS[lack]():
        found = video(host)
    assert np.abs(found.astype(int) - ordinary).max() <= 1  # in 255: rounding
    assert np.abs(found / 255.0 - ordinary / 255.0).mean() < 1e-4


def test_noise_needs_no_generator_of_the_device(host, monkeypatch):
    ordinary, made = video(host), torch.Generator

    def only_on_the_cpu(device="cpu"):
        if str(device) != "cpu":
            raise RuntimeError("no generator for this device")
        return made(device)

    monkeypatch.setattr(torch, "Generator", only_on_the_cpu)
    monkeypatch.setattr(torch, "manual_seed", None)
    assert np.array_equal(video(host), ordinary)


def test_where_bf16_cannot_be_multiplied_its_weights_are_widened(host, monkeypatch):
    monkeypatch.setattr(devices, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    request = dataclasses.replace(REQUEST, precision="bf16")
    with Refusing(lambda tensor: tensor.dtype is torch.bfloat16, only="mm"):
        assert traits_of("cpu").computes == ("fp32",)
        narrow = video(host, request)
    assert np.abs(narrow.astype(int) - video(host)).mean() < 3


def test_what_is_lacking_is_found_out():
    assert traits_of("cpu").fused_attention
    assert traits_of("cpu").inference_mode
    traits_of.cache_clear()
    with LACKS["attention"](), LACKS["numbers of 64 bits"](), LACKS["inference mode"]():
        traits = traits_of("cpu")
    assert (traits.fused_attention, traits.float64, traits.inference_mode) == (False, False, False)


def test_memory_that_nobody_can_tell_is_unknown():
    assert devices.free_memory("privateuseone:0") is None
    assert devices.free_memory("cpu") > 10**6
    assert devices.memory_in_use("privateuseone:0")() > 10**6
    devices.empty_cache("privateuseone:0")
    devices.synchronize("privateuseone:0")


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("scores_at_once", [1, 7, 100, 2**26])
def test_plain_attention_is_the_fused_one_in_slices_of_any_size(scores_at_once, causal):
    query, key, value = (torch.randn(3, 2, length, 8) for length in (5, 5, 5))
    expected = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
    found = plain_attention(query, key, value, is_causal=causal, scores_at_once=scores_at_once)
    assert torch.allclose(found, expected, atol=1e-6)


def test_plain_attention_takes_one_text_for_many_frames_and_half_precision():
    query, key, value = torch.randn(4, 2, 9, 8), torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8)
    expected = F.scaled_dot_product_attention(query, key.expand(4, -1, -1, -1), value.expand(4, -1, -1, -1), scale=0.3)
    assert torch.allclose(plain_attention(query, key, value, scale=0.3), expected, atol=1e-6)
    # Scores beyond what fp16 can hold.
    loud = [(tensor * 300).half() for tensor in (query, key, value)]
    assert torch.isfinite(plain_attention(*loud)).all()


def test_plain_attention_stands_in_only_within_its_block():
    query = torch.randn(1, 1, 4, 8)
    with Without(F.scaled_dot_product_attention):
        with PlainAttention():
            found = F.scaled_dot_product_attention(query, query, query)
        with pytest.raises(NotImplementedError):
            F.scaled_dot_product_attention(query, query, query)
    assert torch.allclose(found, F.scaled_dot_product_attention(query, query, query), atol=1e-6)


def card(name, major, minor):
    return types.SimpleNamespace(name=name, major=major, minor=minor)


@pytest.mark.parametrize(
    ("properties", "hip", "computes", "half"),
    [
        (card("NVIDIA GeForce RTX 4090", 8, 9), None, ("fp16", "bf16", "fp32"), "fp16"),
        (card("NVIDIA GeForce RTX 2080 Ti", 7, 5), None, ("fp16", "fp32"), "fp16"),
        (card("NVIDIA GeForce GTX 1660 SUPER", 7, 5), None, ("fp32",), "fp16"),
        (card("Tesla M40", 5, 2), None, ("fp32",), "fp16"),
        (card("AMD Radeon RX 7900 XTX", 11, 0), "6.2", ("fp16", "bf16", "fp32"), "fp16"),
    ],
)
def test_cuda_cards_differ(properties, hip, computes, half, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    traits = devices._KINDS["cuda"]("cuda:0")
    assert (traits.computes, traits.best_half) == (computes, half)
    assert traits.label == ("ROCm" if hip else "CUDA")


def test_directml_is_never_asked_for_bf16(monkeypatch):
    """One such tensor ends its process."""
    tried = []
    monkeypatch.setattr(devices, "_few", lambda device, dtype=torch.float32: tried.append(dtype) or torch.ones(8, 8))
    traits = traits_of("privateuseone:0")
    assert torch.bfloat16 not in tried
    assert torch.float64 not in tried
    assert (traits.best_half, traits.fused_attention, traits.inference_mode) == ("fp16", False, False)
    with pytest.raises(RequestError, match="DirectML has no bf16"):
        resolve_precision("bf16", device="privateuseone:0", parameters=1)
    assert resolve_precision("auto", device="privateuseone:0", parameters=1) == "fp16"


def test_directml_is_used_where_there_is_nothing_better(monkeypatch):
    stand_in = types.ModuleType("torch_directml")
    stand_in.device, stand_in.is_available = lambda: torch.device("privateuseone:0"), lambda: True
    monkeypatch.setitem(sys.modules, "torch_directml", stand_in)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for is_available, expected in ((True, "cuda"), (False, "privateuseone:0")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda answer=is_available: answer)
        assert StandaloneHost().device() == expected


def test_every_kind_has_a_half_and_computes_in_what_it_stores():
    for kind in ("mps", "privateuseone", "xpu", "cpu", "something"):
        traits: Traits = devices._KINDS.get(kind, devices._unknown)(kind)
        assert "fp32" in traits.computes
        assert set(traits.computes) <= set(traits.stores)
        assert traits.best_half in traits.stores
        assert kind_of(f"{kind}:1") == kind


def test_the_one_device_of_several_is_the_one_that_is_meant_while_a_clip_is_made(host, monkeypatch):
    chosen, meant = [], []

    @contextlib.contextmanager
    def choose(device):
        chosen.append(device)
        yield
        chosen.pop()

    monkeypatch.setattr(torch.cuda, "device", choose)
    with on_device("cuda:1"):
        assert chosen == ["cuda:1"]
    with on_device("cpu"):
        assert chosen == []

    monkeypatch.setattr(local, "on_device", lambda device: choose(f"the {device}"))
    forward = UNet3D.forward
    monkeypatch.setattr(UNet3D, "forward", lambda *a, **k: meant.append(chosen[:]) or forward(*a, **k))
    renderer = LocalRenderer(host, rest=lambda: meant.append(chosen[:]) or Rest.NOWHERE)
    with renderer.session():
        pass
    renderer.render(renderer.resolve(dataclasses.replace(REQUEST, steps=1)), Run())
    assert len(meant) > 1
    assert all(devices == ["the cpu"] for devices in meant)


def test_what_cudnn_says_when_memory_runs_out_is_understood():
    said = "GET was unable to find an engine to execute this computation"
    assert is_out_of_memory(RuntimeError(said))
    assert not is_out_of_memory(ValueError(said))


def test_a_lost_device_is_told_from_an_error_of_ours():
    assert devices.is_lost(RuntimeError("CUDA error: unspecified launch failure"))
    assert devices.is_lost(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not devices.is_lost(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not devices.is_lost(ValueError("unknown error"))


def test_a_number_that_is_fetched_is_the_one_of_that_time():
    number = torch.ones(1)
    assert devices.fetch(number)().item() == 1
    assert devices.to_device(number, "cpu") is number


def test_flags_are_read_from_what_linux_says(tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu avx512_bf16\nflags\t\t: fpu\n")
    monkeypatch.setattr(devices.processor, "FACTS", tmp_path / "cpuinfo")
    devices.cpu_flags.cache_clear()
    assert devices.cpu_flags() == {"fpu", "avx512_bf16"}
    devices.cpu_flags.cache_clear()
