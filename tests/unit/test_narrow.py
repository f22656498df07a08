"""Packed weights that stay in 16 bits: the results of wide ones, in half of their memory, and every bit back."""

import gc
import threading

import pytest
import torch
from test_packing import bits, filled, inputs, unet
from torch import nn

from t2v_core.models import cpu_kernels, narrow
from t2v_core.models.by_taps import ByTaps
from t2v_core.models.cpu_kernels import Packed, PackedConv
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import ModelConfig, UNetConfig
from t2v_core.models.modelscope.layers import Conv2d, DoublingConv2d, FramewiseConv, GatedLinear, Linear
from t2v_core.models.modelscope.packable import Packable, compute_in, pack, unpack
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.models.winograd import OverFrames, OverPlaces
from t2v_core.rendering import upcast
from t2v_core.rendering.footprint import ClipShape, Footprint
from t2v_core.rendering.measures import RUNGS
from t2v_core.rendering.number_formats import NumberFormat
from t2v_core.rendering.upcast import stays_narrow, widen_on_use

needs_places = pytest.mark.skipif(
    not (cpu_kernels.usable(torch.float32) and narrow.keeps_narrow()), reason="torch doesn't say where numbers lie"
)
NARROW = [torch.bfloat16, torch.float16]
MAPS = [(1, 4, 16, 16), (2, 3, 16, 8), (1, 1, 8, 8), (2, 2, 9, 7)]


def kept_narrow(network: nn.Module) -> nn.Module:
    compute_in(network, torch.float32)
    pack(network)
    widen_on_use(network, torch.float32)
    return network


def held_by(network: nn.Module) -> list[object]:
    """The tensors and narrow weights that the packed forms of a network's layers consist of, but for their places."""
    found, queue = [], [layer.__dict__.get("_packed") for layer in network.modules()]
    while queue:
        held = queue.pop()
        if isinstance(held, torch.Tensor):
            found.append(held)
        elif isinstance(held, narrow.Narrow):
            found += [held, held._numbers]
        elif isinstance(held, (list, tuple)):
            queue += held
        elif isinstance(held, dict):
            queue += held.values()
        elif type(held).__module__.startswith("t2v_core.models"):
            queue += vars(held).values()
    return found


def places() -> int:
    gc.collect()
    return len(narrow._places)


@needs_places
@pytest.mark.parametrize("dtype", NARROW)
def test_a_network_computes_as_its_widened_weights_do(dtype):
    wide, network = unet(dtype).float(), kept_narrow(unet(dtype))
    for size in MAPS:
        with torch.inference_mode():
            found, expected = network(*inputs(*size)), wide(*inputs(*size))
        assert torch.linalg.norm(found - expected) / torch.linalg.norm(expected) < 1e-5
    assert sum(layer.is_packed for layer in network.modules() if isinstance(layer, Packable)) > 30
    assert {weight.dtype for weight in network.parameters()} == {dtype}


@needs_places
@pytest.mark.parametrize("dtype", NARROW)
def test_every_bit_comes_back_from_every_form(dtype):
    network = unet(dtype)
    before = bits(network)
    kept_narrow(network)
    for size in MAPS:
        with torch.inference_mode():
            network(*inputs(*size))
        unpack(network)
        after = bits(network)
        assert before.keys() == after.keys()
        assert all(torch.equal(after[name], weight) for name, weight in before.items())
        pack(network)


@needs_places
def test_all_but_the_places_is_narrow():
    """What a layer holds, and all that this holds, is of 16 bits: numbers by the thousand, that is, no biases."""
    network = kept_narrow(unet(torch.bfloat16))
    with torch.inference_mode():
        network(*inputs(1, 2, 16, 16))
    found = [held for held in held_by(network) if isinstance(held, torch.Tensor)]
    large = [tensor for tensor in found if tensor.numel() > 500]
    assert len(large) > 30
    assert {tensor.dtype for tensor in large} == {torch.bfloat16}


@needs_places
@pytest.mark.parametrize("joins_passes", [False, True])
@pytest.mark.parametrize("at_once", [1, 5000, 2**20])
@pytest.mark.parametrize(("kernel", "padding"), [((3, 3), (1, 1)), ((3, 1), (1, 0))])
def test_a_kernel_is_widened_in_parts_that_add_up(kernel, padding, at_once, joins_passes, monkeypatch):
    monkeypatch.setattr(cpu_kernels, "joins_passes", lambda: joins_passes)
    monkeypatch.setattr(cpu_kernels, "_WIDENED_AT_ONCE", at_once)
    conv = filled(nn.Conv2d(36, 48, kernel, padding=padding), torch.bfloat16)
    maps = torch.randn(2, 36, 6, 7).contiguous(memory_format=torch.channels_last)
    more = torch.randn(2, 48, 6, 7).contiguous(memory_format=torch.channels_last)
    added = more.clone()
    packed = PackedConv(conv.weight, conv.bias, padding=padding, computes=torch.float32)
    assert (len(packed._weights) > 1) == (at_once < conv.weight.numel() * 4)
    with torch.inference_mode():
        expected = nn.functional.conv2d(maps, conv.weight.float(), conv.bias.float(), padding=padding)
        assert torch.allclose(packed(maps), expected, atol=1e-5)
        assert torch.allclose(packed(maps, plus=more), expected + more, atol=1e-5)
        assert torch.allclose(packed(maps[:1]), expected[:1], atol=1e-5)
    assert torch.equal(more, added)
    assert torch.equal(packed.unpacked(), conv.weight)


@needs_places
@pytest.mark.parametrize(
    ("make", "kernel"),
    [
        (lambda weight, bias: ByTaps(weight, bias, padding=1, computes=torch.float32), (3, 3)),
        (OverPlaces, (3, 3)),
        (OverFrames, (3, 1)),
    ],
)
def test_other_forms_of_a_convolution_widen_too(make, kernel):
    conv = filled(nn.Conv2d(32, 48, kernel, padding=tuple(size // 2 for size in kernel)), torch.bfloat16)
    form = make(conv.weight, conv.bias)
    maps = torch.randn(1, 32, 4, 8).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = nn.functional.conv2d(maps, conv.weight.float(), conv.bias.float(), padding=conv.padding)
        assert torch.allclose(form(maps), expected, atol=1e-4)
    assert torch.equal(form.unpacked(), conv.weight)


@needs_places
def test_weights_of_one_order_share_a_place_which_goes_with_the_last_of_them():
    before = places()
    layers = [Packed(torch.randn(48, 132).bfloat16(), None, computes=torch.float32) for _ in range(3)]
    others = Packed(torch.randn(132, 48).bfloat16(), None, computes=torch.float32)
    assert places() == before + 2
    del layers
    assert places() == before + 1
    assert others.unpacked().shape == (132, 48)
    del others
    assert places() == before


@needs_places
def test_threads_never_find_each_others_weights_in_a_place():
    weights = [torch.full((64, 96), float(value)).bfloat16() for value in (1, 2, 3, 4)]
    wrong = []

    def work(weight: torch.Tensor) -> None:
        packed, expected = Packed(weight, None, computes=torch.float32), 96 * weight[0, 0].item()
        for _ in range(200):
            product = packed(torch.ones(3, 96))
            if not (product == expected).all():
                wrong.append(expected)

    threads = [threading.Thread(target=work, args=(weight,)) for weight in weights]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@needs_places
def test_a_place_has_the_shape_that_is_foretold():
    """What the memory plan reckons with is what is there."""
    layers = [
        Linear(64, 192),  # oneDNN fills others than multiples of 64 up
        GatedLinear(64, 256),
        Conv2d(64, 128, 3, padding=1),
        Conv2d(128, 64, 1),
        FramewiseConv(64, 128),
        DoublingConv2d(64),
    ]
    for layer in layers:
        before = set(narrow._places)
        kept_narrow(filled(layer, torch.bfloat16))
        (place,) = [narrow._places[key] for key in narrow._places if key not in before]
        assert place.numbers.numel() == torch.Size(layer.place).numel()
        del place


@needs_places
@pytest.mark.parametrize(("height", "width", "texts"), [(16, 16, 1), (16, 8, 2), (4, 4, 2), (32, 32, 2)])
def test_the_memory_plan_counts_the_places_that_will_be_there(height, width, texts):
    config = UNetConfig(dim=64, dim_mult=(1, 2), num_heads=2, head_dim=32, context_dim=64, norm_groups=8, res_blocks=1)
    network = filled(UNet3D(config), torch.bfloat16)
    compute_in(network, torch.float32)
    network.arrange_for(torch.empty(1, 4, 2, height, width, device="meta"), texts=texts)
    pack(network)
    found = {held._place for held in held_by(network) if isinstance(held, narrow.Narrow)}
    numbers = NumberFormat("bf16", torch.bfloat16, torch.float32)
    plan = Footprint(ModelConfig(unet=config), dict.fromkeys(Part, numbers), device="cpu")
    clip = ClipShape(2, height, width, guided=texts > 1)
    # Steps of two have an order of their own, which is not reckoned with.
    assert plan._places(Part.UNET, clip, RUNGS[0]) == pytest.approx(sum(one.numbers.nbytes for one in found), rel=0.15)


@pytest.mark.parametrize("lacks", ["_nbytes", "data_ptr", "_get_mkldnn_serialized_md"])
def test_an_older_torch_that_does_not_say_where_numbers_lie_widens_plain_weights(lacks, monkeypatch):
    class Older:
        def __getattr__(self, name):
            if name == lacks:
                raise AttributeError(name)
            return getattr(torch.ops.mkldnn, name)

    monkeypatch.setattr(narrow, "_ops", Older)
    narrow.keeps_narrow.cache_clear()
    try:
        assert not narrow.keeps_narrow()
        assert not stays_narrow(NumberFormat("bf16", torch.bfloat16, torch.float32), kind="cpu")
    finally:
        narrow.keeps_narrow.cache_clear()


@pytest.mark.parametrize(
    ("numbers", "kind", "expected"),
    [
        (NumberFormat("bf16", torch.bfloat16, torch.float32), "cpu", True),
        (NumberFormat("fp16", torch.float16, torch.float32), "cpu", True),
        (NumberFormat("bf16", torch.bfloat16, torch.bfloat16), "cpu", False),
        (NumberFormat("bf16", torch.bfloat16, torch.float32), "cuda", False),
        # Its weights have scales.
        (NumberFormat("fp8", torch.bfloat16, torch.float32), "cpu", False),
    ],
)
def test_what_stays_narrow(numbers, kind, expected, monkeypatch):
    monkeypatch.setattr(upcast, "usable", lambda dtype: True)
    monkeypatch.setattr(upcast, "keeps_narrow", lambda: True)
    assert stays_narrow(numbers, kind=kind) is expected
