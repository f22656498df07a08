"""Half-precision weights are widened only while a layer runs, and only where the processor needs it."""

from __future__ import annotations

import pytest
import torch
from model_layouts import TINY, random_states
from torch import nn

from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.text_encoder import TextEncoder
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.rendering import devices
from t2v_core.rendering.upcast import compute_dtype, widen_on_use


def narrow(network: nn.Module, part: Part) -> nn.Module:
    state = {name: value.bfloat16() for name, value in random_states(TINY)[part].items()}
    network.load_state_dict(state, strict=True, assign=True)
    return network.requires_grad_(False).eval()


@pytest.mark.parametrize(
    ("part", "build", "inputs"),
    [
        (Part.TEXT, lambda: TextEncoder(TINY.text), (torch.arange(77)[None],)),
        (
            Part.UNET,
            lambda: UNet3D(TINY.unet),
            (torch.randn(1, 4, 2, 4, 4), torch.tensor([5.0]), torch.randn(1, 77, 32)),
        ),
    ],
    ids=["text", "unet"],
)
def test_it_computes_as_float32_does_and_keeps_the_weights_narrow(part, build, inputs):
    wide = narrow(build(), part).float()
    network = narrow(build(), part)
    widen_on_use(network, torch.float32)
    with torch.inference_mode():
        assert torch.equal(network(*inputs), wide(*inputs))
    assert {value.dtype for value in network.parameters()} == {torch.bfloat16}
    assert list(network.state_dict()) == list(wide.state_dict())


def test_the_weights_are_narrow_again_after_an_error():
    layer = nn.Linear(4, 4).bfloat16()
    widen_on_use(layer, torch.float32)
    with pytest.raises(RuntimeError):
        layer(torch.randn(3, 5))
    assert layer.weight.dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("weights", "device", "flags", "expected"),
    [
        (torch.bfloat16, "cpu", "avx512f", torch.float32),
        (torch.bfloat16, "cpu", "avx512f avx512_bf16", torch.bfloat16),
        (torch.float16, "cpu", "avx512_bf16", torch.float32),
        (torch.float32, "cpu", "", torch.float32),
    ],
)
def test_the_processor_decides(weights, device, flags, expected, monkeypatch):
    monkeypatch.setattr(devices, "cpu_flags", lambda: frozenset(flags.split()))
    devices.traits_of.cache_clear()
    assert compute_dtype(weights, device=device) is expected
    devices.traits_of.cache_clear()
