"""Weights in eight bits: half of the memory, nearly the same picture, and only where it can be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from model_layouts import TINY, random_states

from t2v_core.errors import RequestError
from t2v_core.models.catalogue import DEMO, find_model
from t2v_core.models.loading import load_part
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.rendering import devices
from t2v_core.rendering.eight_bits import EightBits, is_narrowed
from t2v_core.rendering.local import LocalRenderer
from t2v_core.rendering.plan import resolve_precision
from t2v_core.rendering.upcast import widen_on_use
from t2v_core.request import GenerationRequest
from t2v_core.run import Run

REQUEST = GenerationRequest(
    prompt="a red ball", model=DEMO, seed=3, steps=3, frames=2, width=64, height=64, precision="fp32"
)


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    devices.traits_of.cache_clear()
    yield
    devices.traits_of.cache_clear()


def narrowed(folder):
    eight = EightBits()
    network = load_part(folder, Part.UNET, dtype=torch.bfloat16, narrowed=eight)
    eight.attach(network)
    return network


def test_the_weights_take_half_and_what_is_small_or_outermost_stays(host):
    folder = find_model(DEMO, host.models_folders)
    network, wide = narrowed(folder), load_part(folder, Part.UNET, dtype=torch.bfloat16)
    kinds = {name: value.dtype for name, value in network.named_parameters()}
    assert kinds["time_embed.0.weight"] is kinds["input_blocks.0.0.weight"] is kinds["out.2.weight"] is torch.bfloat16
    assert all(kinds[name] is torch.bfloat16 for name, value in network.named_parameters() if value.ndim == 1)
    eight = [name for name, kind in kinds.items() if kind is torch.float8_e4m3fn]
    assert eight == [name for name, value in wide.named_parameters() if is_narrowed(name, value)]
    size = sum(value.nbytes for value in network.parameters()) / sum(value.nbytes for value in wide.parameters())
    assert size < 0.65  # 0.5 in the 1.7B model
    assert list(network.state_dict()) == list(wide.state_dict())


def test_each_weight_is_within_a_sixteenth_and_rows_have_their_own_scale():
    value = torch.randn(64, 40, 3, 3) * torch.logspace(-6, 2, 64)[:, None, None, None]
    eight, layer = EightBits(), torch.nn.Conv2d(40, 64, 3)
    layer.weight = torch.nn.Parameter(eight("weight", value), requires_grad=False)
    eight.attach(layer)
    back = layer.weight.float() * layer.weight_scale
    assert layer.weight.dtype is torch.float8_e4m3fn
    error = (back - value).abs() / value.abs().amax((1, 2, 3), keepdim=True)
    assert error.max() <= 1 / 28  # of a row's largest: half a step of the coarsest binade
    assert ((back - value).flatten(1).norm(dim=1) / value.flatten(1).norm(dim=1)).max() < 0.03


def test_zeros_and_small_tensors_survive():
    eight = EightBits()
    assert torch.equal(eight("a.weight", torch.zeros(256, 256)).float(), torch.zeros(256, 256))
    small = torch.randn(8, 8)
    assert eight("b.weight", small) is small


@torch.no_grad()
def test_a_layer_computes_with_its_scaled_weights():
    state = random_states(TINY)[Part.UNET]
    eight, network = EightBits(), UNet3D(TINY.unet)
    network.load_state_dict({name: eight(name, value) for name, value in state.items()}, strict=True, assign=True)
    eight.attach(network)
    widen_on_use(network.requires_grad_(False).eval(), torch.float32)
    exact = UNet3D(TINY.unet)
    exact.load_state_dict(state, strict=True, assign=True)
    given = torch.randn(1, 4, 2, 8, 8), torch.tensor([5.0]), torch.randn(1, 77, 32)
    found, wanted = network(*given), exact.eval()(*given)
    assert (found - wanted).norm() / wanted.norm() < 0.1


def test_a_video_is_made_and_its_recipe_says_so(host):
    def video(**changes):
        renderer = LocalRenderer(host)
        return renderer.render(renderer.resolve(dataclasses.replace(REQUEST, **changes)), Run())

    exact, eight = video(), video(precision="fp8")
    assert eight.request.precision == "fp8"
    difference = (eight.frames[:].astype(float) - exact.frames[:]) / 255
    assert 10 * np.log10(1 / np.mean(difference**2)) > 25
    assert np.array_equal(eight.frames, video(precision="fp8").frames)


def test_the_forecast_of_memory_is_smaller(host):
    renderer = LocalRenderer(host)
    told = {name: renderer.forecast(REQUEST.with_field("precision", name)) for name in ("bf16", "fp8")}
    assert told["fp8"].weights < told["bf16"].weights


def test_where_there_is_none_it_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(devices, "_eight_bits", lambda device: torch.no_such_dtype)
    devices.traits_of.cache_clear()
    with pytest.raises(RequestError, match="CPU has no fp8"):
        resolve_precision("fp8", device="cpu", parameters=1)
