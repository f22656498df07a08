"""Half-precision weights are widened only while a layer runs, and only where the processor needs it."""

from __future__ import annotations

import pytest
import torch
from model_layouts import TINY, random_states
from torch import nn

from t2v_core.models import cpu_kernels
from t2v_core.models.modelscope import attention
from t2v_core.models.modelscope.attention import FeedForward
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.layers import Conv2d
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
@pytest.mark.parametrize("packs", [False, True])
def test_it_computes_as_float32_does_and_keeps_the_weights_narrow(part, build, inputs, packs, monkeypatch):
    if not packs:
        monkeypatch.setattr(cpu_kernels, "usable", lambda dtype: False)
    wide = narrow(build(), part).float()
    network = narrow(build(), part)
    widen_on_use(network, torch.float32)
    with torch.inference_mode():
        found, expected = network(*inputs), wide(*inputs)
    # The text tower has no layers that are packed.
    if packs and part is Part.UNET:
        assert torch.linalg.norm(found - expected) / torch.linalg.norm(expected) < 1e-5
    else:
        assert torch.equal(found, expected)
    assert {value.dtype for value in network.parameters()} == {torch.bfloat16}
    assert list(network.state_dict()) == list(wide.state_dict())


@pytest.mark.skipif(not cpu_kernels.usable(torch.float32), reason="torch has no oneDNN here")
@pytest.mark.parametrize("fails", [False, True])
def test_convolutions_are_packed_while_they_run(fails, monkeypatch):
    conv = Conv2d(32, 48, 3, padding=1).bfloat16().requires_grad_(False)
    weight, packed, own = conv.weight.clone(), [], Conv2d._pack
    monkeypatch.setattr(Conv2d, "_pack", lambda layer: packed.append(layer) or own(layer))
    widen_on_use(conv, torch.float32)
    maps = torch.randn(2, 32, 6, 7).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        made = [conv(maps), conv(maps)]
        if fails:
            with pytest.raises(RuntimeError):
                conv(torch.randn(2, 31, 6, 7))
    assert packed[:2] == [conv, conv]
    expected = torch.nn.functional.conv2d(maps, weight.float(), conv.bias.float(), padding=1)
    assert all(torch.allclose(each, expected, atol=1e-5) for each in made)
    assert torch.equal(conv.weight, weight)
    assert not conv.is_packed
    assert not conv.is_emptied


@pytest.mark.skipif(not cpu_kernels.usable(torch.float32), reason="torch has no oneDNN here")
@pytest.mark.parametrize("fails", [False, True])
def test_a_feed_forward_is_widened_and_packed_once_for_all_of_its_parts(fails, monkeypatch):
    monkeypatch.setattr(attention, "_ROWS_AT_ONCE", 10)
    block = FeedForward(32).bfloat16().requires_grad_(False).eval()
    gate, out = block.net[0].proj, block.net[2]
    before, packed, rows = bits(block), [], []
    for kind in (type(gate), type(out)):
        own = kind._pack
        monkeypatch.setattr(kind, "_pack", lambda layer, own=own: packed.append(layer) or own(layer))
    out.register_forward_pre_hook(lambda layer, inputs: rows.append(len(inputs[0])))
    widen_on_use(block, torch.float32)
    tokens = torch.randn(2, 17, 32)
    with torch.inference_mode():
        found = block(tokens, plus=tokens)
        if fails:
            with pytest.raises(RuntimeError):
                block(torch.randn(2, 17, 31))
    assert packed[:2] == [gate, out]
    assert rows[:4] == [10, 10, 10, 4]
    wide = FeedForward(32).requires_grad_(False).eval()
    wide.load_state_dict({name: value.float() for name, value in before.items()})
    with torch.inference_mode():
        assert torch.allclose(found, wide(tokens, plus=tokens), atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in bits(block).items())
    assert not any(layer.is_packed or layer.is_emptied for layer in (gate, out))


def bits(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_the_weights_are_narrow_again_after_an_error():
    layer = nn.Linear(4, 4).bfloat16()
    widen_on_use(layer, torch.float32)
    with pytest.raises(RuntimeError):
        layer(torch.randn(3, 5))
    assert layer.weight.dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("weights", "maker", "flags", "expected"),
    [
        (torch.bfloat16, "AuthenticAMD", "avx512f", torch.float32),
        (torch.bfloat16, "AuthenticAMD", "avx512f avx512_bf16", torch.bfloat16),
        # What Intel's vectors do takes longer than float32.
        (torch.bfloat16, "GenuineIntel", "avx512f avx512_bf16", torch.float32),
        (torch.bfloat16, "GenuineIntel", "avx512f avx512_bf16 amx_bf16", torch.bfloat16),
        (torch.float16, "GenuineIntel", "avx512_bf16 avx512_fp16", torch.float16),
        (torch.float16, "AuthenticAMD", "avx512_bf16", torch.float32),
        (torch.float32, "", "", torch.float32),
    ],
)
def test_the_processor_decides(weights, maker, flags, expected, monkeypatch):
    monkeypatch.setattr(devices, "cpu_flags", lambda: frozenset(flags.split()))
    monkeypatch.setattr(devices.processor, "fact", lambda *names: maker)
    devices.traits_of.cache_clear()
    assert compute_dtype(weights, device="cpu") is expected
    devices.traits_of.cache_clear()
