"""Packed weights for a CPU: the same results, and the same bits when they are taken back."""

import contextlib
import threading
import time
import types

import pytest
import torch
from einops import rearrange
from torch import nn

from t2v_core.errors import Cancelled
from t2v_core.models import cpu_kernels, winograd
from t2v_core.models.by_taps import ByTaps
from t2v_core.models.cpu_kernels import PackedConv
from t2v_core.models.loading import blocks_of
from t2v_core.models.modelscope import layers
from t2v_core.models.modelscope.attention import FeedForward, RememberedText, TemporalTransformer
from t2v_core.models.modelscope.blocks import TemporalConv
from t2v_core.models.modelscope.config import AutoencoderConfig, UNetConfig
from t2v_core.models.modelscope.layers import Conv2d, DoublingConv2d, FramewiseConv, JoinedLinear
from t2v_core.models.modelscope.packable import Packable, pack, unpack
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.models.modelscope.vae import Autoencoder
from t2v_core.models.winograd import OverFrames, OverPlaces
from t2v_core.rendering import packing
from t2v_core.rendering.packing import pack_while
from t2v_core.rendering.plain_attention import attention_by

SMALL = UNetConfig(dim=32, dim_mult=(1, 2, 2), num_heads=2, head_dim=16, context_dim=32, norm_groups=8, res_blocks=1)
SMALL_AUTOENCODER = AutoencoderConfig(dim=32, dim_mult=(1, 2, 2), res_blocks=1, norm_groups=8)

needs_kernels = pytest.mark.skipif(not cpu_kernels.usable(torch.float32), reason="torch has no oneDNN here")


def filled(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            bound = weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.5
            weight.copy_((torch.rand(weight.shape, generator=generator) * 2 - 1) * bound)
    return network.to(dtype).requires_grad_(False).eval()


def unet(dtype: torch.dtype = torch.float32) -> nn.Module:
    return filled(UNet3D(SMALL), dtype)


def on_processor(monkeypatch, *, is_intel: bool, has_avx512: bool) -> None:
    monkeypatch.setattr(cpu_kernels, "is_intel", lambda: is_intel)
    monkeypatch.setattr(cpu_kernels, "has_avx512", lambda: has_avx512)


def inputs(batch: int, frames: int, height: int, width: int, dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(batch, 4, frames, height, width, generator=generator).to(dtype)
    text = torch.randn(batch, 7, 32, generator=generator).to(dtype)
    return latents, torch.full((batch,), 321.0), text


def bits(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in network.state_dict().items()}


@needs_kernels
@pytest.mark.parametrize(("is_intel", "has_avx512"), [(False, False), (False, True), (True, True)])
def test_what_follows_a_product_is_the_same_in_its_pass_and_in_one_of_its_own(is_intel, has_avx512, monkeypatch):
    on_processor(monkeypatch, is_intel=is_intel, has_avx512=has_avx512)
    assert cpu_kernels.joins_passes() is is_intel
    linear, conv = filled(layers.Linear(32, 48)), filled(Conv2d(32, 48, 3, padding=1))
    rows, maps = torch.randn(5, 32), torch.randn(2, 32, 6, 7).contiguous(memory_format=torch.channels_last)
    more, more_maps = torch.randn(5, 48), torch.randn(2, 48, 6, 7).contiguous(memory_format=torch.channels_last)
    packed = cpu_kernels.Packed(linear.weight, linear.bias)
    packed_conv = PackedConv(conv.weight, conv.bias, padding=1)
    before = more.clone(), more_maps.clone()
    with torch.inference_mode():
        product, maps_made = linear(rows), conv(maps)
        pairs = [
            (packed(rows, plus=more), product + more),
            (packed(rows, plus=more, out=(place := torch.empty(5, 48))), product + more),
            (place, product + more),
            (packed(rows, out=(bare := torch.empty(5, 48))), product),
            (bare, product),
            (cpu_kernels.linear(rows, linear.weight, linear.bias, plus=more), product + more),
            (packed.gelu(rows), torch.nn.functional.gelu(product)),
            (packed.times(rows, more), product * more),
            (packed_conv(maps, plus=more_maps), maps_made + more_maps),
        ]
    for found, wanted in pairs:
        assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.equal(more, before[0])
    assert torch.equal(more_maps, before[1])


@needs_kernels
@pytest.mark.parametrize(
    ("batch", "frames", "height", "width"), [(1, 4, 16, 16), (2, 3, 16, 8), (1, 1, 8, 8), (2, 2, 9, 7)]
)
def test_packed_weights_give_the_same_result_within_the_last_digits(batch, frames, height, width):
    network = unet()
    with torch.inference_mode():
        plain = network(*inputs(batch, frames, height, width))
        pack(network)
        packed = network(*inputs(batch, frames, height, width))
    assert sum(layer.is_packed for layer in network.modules() if isinstance(layer, Packable)) > 30
    joined = [layer for layer in network.modules() if isinstance(layer, JoinedLinear)]
    assert joined
    assert all(layer.is_packed for layer in joined)
    assert torch.linalg.norm(packed - plain) / torch.linalg.norm(plain) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_unpacking_gives_every_bit_back(dtype):
    if not cpu_kernels.usable(dtype):
        pytest.skip("torch has no oneDNN for it here")
    network = unet(dtype)
    before = bits(network)
    pack(network)
    with torch.inference_mode():  # small maps turn convolutions into products
        network(*inputs(1, 2, 8, 8, dtype))
    assert any(weight.is_meta for weight in network.parameters())
    unpack(network)
    after = bits(network)
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


@needs_kernels
def test_a_packed_network_stays_where_it_is_and_says_so_if_it_should_go():
    network = unet()
    pack(network)
    with torch.inference_mode():
        before = network(*inputs(1, 2, 8, 8))
        assert torch.equal(network.to("cpu").float()(*inputs(1, 2, 8, 8)), before)
    with pytest.raises(RuntimeError, match="unpack it first"):
        network.to(torch.bfloat16)


@needs_kernels
def test_maps_of_changing_size_turn_a_convolution_back_and_forth():
    conv = filled(Conv2d(32, 32, 3, padding=1))
    weight = conv.weight.clone()
    pack(conv)
    with torch.inference_mode():
        for side in (16, 4, 2, 16, 3):
            maps = torch.randn(2, 32, side, side + 1).contiguous(memory_format=torch.channels_last)
            more = torch.randn_like(maps)
            expected = torch.nn.functional.conv2d(maps, weight, conv.bias, padding=1) + more
            assert torch.allclose(conv(maps, plus=more), expected, atol=1e-5)
    unpack(conv)
    assert torch.equal(conv.weight, weight)


@needs_kernels
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (2, 2), (3, 2), (4, 4), (7, 8)])
@pytest.mark.parametrize("stride", [1, 2, (2, 1)])
@pytest.mark.parametrize("kernel", [(3, 3), (3, 1), (1, 1), (5, 3)])
@pytest.mark.parametrize("with_more", [False, True])
def test_products_for_each_place_of_a_kernel_make_a_convolution(size, stride, kernel, with_more):
    padding = (kernel[0] // 2, kernel[1] // 2)
    conv = filled(Conv2d(32, 48, kernel, padding=padding, stride=stride))
    maps = torch.randn(3, 32, *size).contiguous(memory_format=torch.channels_last)
    expected = torch.nn.functional.conv2d(maps, conv.weight, conv.bias, padding=padding, stride=stride)
    more = torch.randn_like(expected) if with_more else None
    form = ByTaps(conv.weight, conv.bias, padding=padding, stride=stride)
    with torch.inference_mode():
        found = form(maps, plus=more)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(found, expected if more is None else expected + more, atol=1e-5)
    assert torch.equal(form.unpacked(), conv.weight)


@needs_kernels
def test_products_for_each_place_of_a_kernel_need_no_padding():
    conv = filled(Conv2d(32, 32, 3, stride=2))
    maps = torch.randn(2, 32, 8, 7).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        found = ByTaps(conv.weight, conv.bias, stride=2)(maps)
        assert torch.allclose(found, conv(maps), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_sum_of_a_kernels_products_is_as_exact_in_16_bits_as_a_convolution(dtype):
    if not cpu_kernels.usable(dtype):
        pytest.skip("torch has no oneDNN for it here")
    conv = filled(Conv2d(64, 64, 3, padding=1)).to(dtype)
    maps = torch.randn(8, 64, 4, 4).to(dtype).contiguous(memory_format=torch.channels_last)
    exact = torch.nn.functional.conv2d(maps.double(), conv.weight.double(), conv.bias.double(), padding=1)
    with torch.inference_mode():
        form = ByTaps(conv.weight, conv.bias, padding=1)
        errors = [torch.linalg.norm(each(maps).double() - exact) for each in (form, conv)]
    assert errors[0] < 2 * errors[1]


@needs_kernels
@pytest.mark.parametrize("side", [8, 7, 16])
def test_a_halving_convolution_to_small_maps_changes_its_form(side):
    conv = filled(Conv2d(32, 32, 3, stride=2, padding=1))
    maps = torch.randn(2, 32, side, side).contiguous(memory_format=torch.channels_last)
    expected = torch.nn.functional.conv2d(maps, conv.weight, conv.bias, stride=2, padding=1)
    pack(conv)
    with torch.inference_mode():
        assert torch.allclose(conv(maps), expected, atol=1e-5)
    assert isinstance(conv._packed, ByTaps if side <= 8 else PackedConv)


@needs_kernels
@pytest.mark.parametrize("channels", [48, 64, 96])
def test_a_kernel_is_turned_once_for_maps_of_a_size_and_not_in_every_call(channels, capfd):
    conv = filled(Conv2d(channels, channels, 3, padding=1))
    weight = conv.weight.clone()
    pack(conv)
    with torch.inference_mode():
        for shape in ((16, 8, 8), (1, 40, 40), (16, 8, 8), (3, 5, 30)):
            maps = torch.randn(shape[0], channels, *shape[1:]).contiguous(memory_format=torch.channels_last)
            conv(maps)
            capfd.readouterr()
            with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
                found = conv(maps)
            done = capfd.readouterr().out
            assert "exec,cpu,convolution" in done
            assert "exec,cpu,reorder" not in done
            assert torch.allclose(found, torch.nn.functional.conv2d(maps, weight, conv.bias, padding=1), atol=1e-5)
    unpack(conv)
    assert torch.equal(conv.weight, weight)


def compared(form, conv, maps, more):
    """How far a form of a convolution and the usual one are from the exact result, relative."""
    exact = conv.double()(maps.double()) + (0 if more is None else more)
    usual = conv.float()(maps) + (0 if more is None else more)
    found = form(conv.weight, conv.bias)(maps, plus=more)
    assert found.shape == exact.shape
    return tuple(float(torch.linalg.norm(each - exact) / torch.linalg.norm(exact)) for each in (found, usual))


@needs_kernels
@pytest.mark.parametrize("size", [(8, 8), (2, 12), (9, 6), (40, 7)])
@pytest.mark.parametrize("with_more", [False, True])
@pytest.mark.parametrize("kernel_at_once", [2**20, 2**30])
def test_winograds_products_over_places_are_nearly_as_exact_as_all_of_them(
    size, with_more, kernel_at_once, monkeypatch
):
    monkeypatch.setattr(winograd, "_SMALL", 2**17)  # some maps, or some rows of one, at a time
    monkeypatch.setattr(winograd, "_LARGE", 2**18)
    monkeypatch.setattr(winograd, "_KERNEL_AT_ONCE", kernel_at_once)
    maps = torch.randn(7, 96, *size).contiguous(memory_format=torch.channels_last)
    conv, more = filled(nn.Conv2d(96, 80, 3, padding=1)), torch.randn(7, 80, *size) if with_more else None
    with torch.inference_mode():
        off, usual = compared(OverPlaces, conv, maps, more)
        assert OverPlaces(conv.weight, None)(maps).is_contiguous(memory_format=torch.channels_last)
    assert off < 2e-6
    assert off < 5 * usual


@needs_kernels
@pytest.mark.parametrize("frames", [1, 3, 4, 8, 10])
@pytest.mark.parametrize("with_more", [False, True])
def test_winograds_products_over_frames_are_nearly_as_exact_as_all_of_them(frames, with_more, monkeypatch):
    monkeypatch.setattr(winograd, "_SMALL", 2**16)  # some places at a time
    maps = rearrange(torch.randn(frames, 50, 64), "f p c -> 1 c f p")
    more = rearrange(torch.randn(frames, 50, 48), "f p c -> 1 c f p") if with_more else None
    with torch.inference_mode():
        off, usual = compared(OverFrames, filled(nn.Conv2d(64, 48, (3, 1), padding=(1, 0))), maps, more)
    assert off < 1e-6
    assert off < 4 * usual


@pytest.mark.parametrize(("form", "kernel"), [(OverPlaces, (3, 3)), (OverFrames, (3, 1))])
def test_winograds_forms_give_the_kernel_back_bit_for_bit(form, kernel, monkeypatch):
    monkeypatch.setattr(winograd, "_KERNEL_AT_ONCE", 2**18)
    weight = torch.randn(80, 96, *kernel)
    assert torch.equal(form(weight, None).unpacked(), weight)


@needs_kernels
def test_a_network_gives_the_same_with_winograds_products(monkeypatch):
    network = unet()
    monkeypatch.setattr(winograd, "_WORTH_IT", float("inf"))
    with torch.inference_mode():
        plain = network(*inputs(1, 3, 16, 16))
        pack(network)
        packed = network(*inputs(1, 3, 16, 16))
    forms = [type(layer._packed) for layer in network.modules() if hasattr(layer, "_packed")]
    assert forms.count(OverPlaces) > 5
    assert forms.count(OverFrames) > 20
    assert torch.linalg.norm(packed - plain) / torch.linalg.norm(plain) < 1e-5


@pytest.mark.parametrize(
    ("form", "pays", "shape", "dtype"),
    [
        (OverPlaces, True, (16, 320, 32, 32), torch.float32),
        (OverPlaces, True, (16, 1280, 8, 8), torch.float32),
        (OverPlaces, True, (16, 320, 31, 29), torch.float32),
        (OverPlaces, True, (1, 320, 512, 512), torch.float32),
        (OverPlaces, False, (16, 320, 32, 32), torch.bfloat16),  # its sums would lose digits
        (OverPlaces, False, (1, 1280, 8, 8), torch.float32),  # its kernel's sums would take longer
        (OverPlaces, False, (8, 96, 8, 8), torch.float32),
        (OverFrames, True, (1, 1280, 16, 256), torch.float32),
        (OverFrames, False, (1, 1280, 16, 256), torch.bfloat16),
        (OverFrames, False, (1, 1280, 1, 256), torch.float32),
        (OverFrames, False, (1, 1280, 5, 256), torch.float32),  # two fours for five frames
    ],
)
@pytest.mark.parametrize(("is_intel", "has_avx512"), [(False, True), (True, True), (False, False), (True, False)])
def test_winograds_products_are_for_many_places_of_many_channels_in_float32(
    form, pays, shape, dtype, *, is_intel, has_avx512, monkeypatch
):
    on_processor(monkeypatch, is_intel=is_intel, has_avx512=has_avx512)
    channels = 320 if form is OverPlaces else 1280
    assert form.pays(torch.empty(shape, dtype=dtype, device="meta"), channels=channels) is pays


@pytest.mark.parametrize("is_intel", [False, True])
def test_sums_weigh_more_where_products_are_fast(is_intel, monkeypatch):
    on_processor(monkeypatch, is_intel=is_intel, has_avx512=True)
    assert OverFrames.pays(torch.empty(1, 320, 16, 1024, device="meta"), channels=320) is not is_intel


@pytest.mark.parametrize("has_avx512", [False, True])
def test_a_kernels_sums_weigh_more_where_products_of_few_rows_are_slow(has_avx512, monkeypatch):
    on_processor(monkeypatch, is_intel=False, has_avx512=has_avx512)
    few, many = (torch.empty(count, 1280, 8, 8, device="meta") for count in (8, 16))
    assert OverPlaces.pays(few, channels=1280) is has_avx512
    assert OverPlaces.pays(many, channels=1280)


@needs_kernels
@pytest.mark.parametrize("is_intel", [False, True])
def test_either_library_multiplies_the_same(is_intel, monkeypatch):
    monkeypatch.setattr(cpu_kernels, "is_intel", lambda: is_intel)
    matrices, others = torch.randn(6, 5, 3, 40), torch.randn(6, 40, 24)
    with torch.inference_mode():
        found = cpu_kernels.multiply_each(matrices, others)
        assert torch.allclose(torch.stack(list(found)), torch.einsum("efgk,ekn->efgn", matrices, others), atol=1e-4)
        assert torch.allclose(cpu_kernels.multiply(matrices[0, 0], others[0]), matrices[0, 0] @ others[0], atol=1e-4)


@needs_kernels
@pytest.mark.parametrize("size", [None, (10, 13), (9, 14), (9, 13)])
def test_a_convolution_of_doubled_maps_gives_the_same_without_doubling_them(size, monkeypatch):
    conv = filled(DoublingConv2d(32))
    maps = torch.randn(2, 32, 5, 7).contiguous(memory_format=torch.channels_last)
    bits_before = conv.weight.clone()
    with torch.inference_mode():
        plain = conv(maps, size)
        pack(conv)
        if size is None:
            monkeypatch.delattr(torch.nn.functional, "interpolate")
        packed = conv(maps, size)
    assert plain.shape[-2:] == (size or (10, 14))
    assert torch.allclose(packed, plain, atol=1e-5)
    assert packed.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match="unpack it first"):
        conv.to(torch.bfloat16)
    unpack(conv)
    assert torch.equal(conv.weight, bits_before)


@pytest.mark.parametrize(("dtype", "digits"), [(torch.bfloat16, 8), (torch.float16, 11)])
def test_sums_of_weights_are_as_near_to_exact_as_16_bits_are(dtype, digits):
    if not cpu_kernels.usable(dtype):
        pytest.skip("torch has no oneDNN for it here")
    conv = filled(DoublingConv2d(64), dtype)
    maps = torch.randn(1, 64, 8, 8).to(dtype).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        exact = filled(DoublingConv2d(64)).float()
        exact.load_state_dict({name: value.float() for name, value in conv.state_dict().items()})
        wanted = exact(maps.float())
        pack(conv)
        error = torch.linalg.norm(conv(maps).float() - wanted) / torch.linalg.norm(wanted)
    assert error < 2**-digits


@needs_kernels
def test_layers_that_are_too_wide_for_four_kernels_keep_their_one(monkeypatch):
    monkeypatch.setattr(layers, "WIDEST_DOUBLED", 31)
    conv = filled(DoublingConv2d(32))
    maps, bits_before = torch.randn(1, 32, 4, 4), conv.weight.clone()
    with torch.inference_mode():
        plain = conv(maps)
        pack(conv)
        assert conv.weight.is_meta
        assert torch.allclose(conv(maps), plain, atol=1e-5)
    unpack(conv)
    assert torch.equal(conv.weight, bits_before)


@needs_kernels
@pytest.mark.parametrize("size", [(16, 16), (16, 8), (9, 7), (3, 2)])
@pytest.mark.parametrize("worth_it", [0, float("inf")])
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_network_can_be_arranged_for_a_size_before_its_first_latents(size, worth_it, is_packed, monkeypatch):
    monkeypatch.setattr(winograd, "_WORTH_IT", worth_it)
    network, late = unet(), unet()
    pack(late)
    with torch.inference_mode():
        expected = late(*inputs(1, 2, *size))
        if is_packed:
            pack(network)
        network.arrange_for(torch.empty(1, 4, 2, *size, device="meta"), texts=1)
        pack(network)
        for layer in (Conv2d, FramewiseConv):
            monkeypatch.setattr(layer, "_in_form", None)  # nothing is left to be turned
        assert torch.equal(network(*inputs(1, 2, *size)), expected)


@needs_kernels
def test_kernels_are_packed_once_for_maps_that_were_announced(monkeypatch):
    monkeypatch.setattr(cpu_kernels, "_has_one_order", lambda *, channels: False)
    monkeypatch.setattr(winograd, "_WORTH_IT", 0)
    network, packed, pack_kernel = unet(), [], PackedConv._pack

    def note(self, weight, *, for_maps):
        packed.append(self)
        pack_kernel(self, weight, for_maps=for_maps)

    monkeypatch.setattr(PackedConv, "_pack", note)
    network.arrange_for(torch.empty(1, 4, 3, 16, 16, device="meta"), texts=1)
    pack(network)
    doubled = sum(isinstance(module, DoublingConv2d) for module in network.modules())
    before = len(packed)
    assert before > 4 * doubled > 0
    with torch.inference_mode():
        network(*inputs(1, 3, 16, 16))
    assert len(packed) - before == 4 * doubled, "those without doubled maps aren't announced"


@pytest.mark.parametrize("is_packed", [False, pytest.param(True, marks=needs_kernels)])
@pytest.mark.parametrize("batch", [1, 2])
def test_norms_over_a_whole_clip_see_channels_last_maps(batch, is_packed, monkeypatch):
    monkeypatch.setattr(winograd, "_WORTH_IT", float("inf"))
    network, seen = unet(), []
    for module in network.modules():
        if isinstance(module, (TemporalConv, TemporalTransformer)):
            for norm in (layer for layer in module.modules() if isinstance(layer, nn.GroupNorm)):
                norm.register_forward_hook(lambda norm, args, output: seen.append((args[0], output)))
    if is_packed:
        pack(network)
    with torch.inference_mode():
        network(*inputs(batch, 3, 8, 8))
    assert seen
    for given, found in seen:
        # torch takes the stride of the batch for a hint, even where there is but one.
        assert given.stride() == found.stride() == (given[0].numel(), 1, *given.stride()[2:])


@needs_kernels
def test_a_feed_forward_in_parts_gives_the_same_bits():
    layer = filled(FeedForward(32))
    pack(layer)
    tokens, more = torch.randn(2, 1, 3, 5000, 32)
    with torch.inference_mode():
        whole = layer._rows(tokens, more)
        assert torch.equal(layer(tokens, plus=more), whole)
        assert torch.allclose(layer(tokens) + more, whole, atol=1e-5)


@needs_kernels
def test_a_packed_autoencoder_decodes_and_encodes_the_same():
    network = filled(Autoencoder(SMALL_AUTOENCODER))
    latents = torch.randn(2, SMALL_AUTOENCODER.z_dim, 6, 5)
    with torch.inference_mode():
        pictures = network.decode(latents)
        mean, _ = network.encode(pictures.clamp(-1, 1))
        pack(network)
        assert torch.allclose(network.decode(latents), pictures, atol=1e-4)
        assert torch.allclose(network.encode(pictures.clamp(-1, 1))[0], mean, atol=1e-4)


def test_where_torch_lacks_the_operators_nothing_is_packed(monkeypatch):
    monkeypatch.setattr(cpu_kernels, "usable", lambda dtype: False)
    network = unet()
    pack(network)
    assert not any(layer.is_packed for layer in network.modules() if isinstance(layer, Packable))
    with torch.inference_mode():
        assert torch.isfinite(network(*inputs(1, 2, 8, 8))).all()


def test_operators_that_give_something_else_are_not_used(monkeypatch):
    cpu_kernels.usable.cache_clear()
    monkeypatch.setattr(cpu_kernels, "linear", lambda x, weight, bias, *, plus=None: torch.zeros(1))
    try:
        assert not cpu_kernels.usable(torch.float32)
    finally:
        cpu_kernels.usable.cache_clear()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_formats_that_the_processor_or_torch_does_not_multiply_are_not_packed(dtype, monkeypatch):
    cpu_kernels.usable.cache_clear()
    for answers in ({}, {"_is_mkldnn_bf16_supported": bool, "_is_mkldnn_fp16_supported": bool}):
        monkeypatch.setattr(cpu_kernels, "_ops", lambda answers=answers: types.SimpleNamespace(**answers))
        try:
            assert not cpu_kernels.usable(dtype)
        finally:
            cpu_kernels.usable.cache_clear()


def test_the_texts_keys_and_values_are_made_once():
    network = unet()
    latents, timesteps, text = inputs(2, 2, 8, 8)
    remembered, projected = RememberedText(text), []
    for module in network.modules():
        if hasattr(module, "to_qkv") and module.to_qkv is None:
            module.to_k.register_forward_hook(lambda layer, args, output: projected.append(layer))
    with torch.inference_mode():
        plain = network(latents, timesteps, text)
        layers = len(projected)
        assert layers > 0
        first, second = (network(latents, timesteps, remembered) for _ in range(2))
    assert len(projected) == 2 * layers
    assert torch.equal(first, plain)
    assert torch.equal(second, plain)


@pytest.mark.parametrize("of_each_frame", [False, True])
@pytest.mark.parametrize("fused", [True, False])
def test_keys_of_nothing_fill_up_a_text_and_change_nothing(of_each_frame, fused, monkeypatch):
    network = unet()
    latents, timesteps, _ = inputs(2, 3, 8, 8)
    text = torch.randn(2, *([3] if of_each_frame else []), 77, 32)
    monkeypatch.setattr(cpu_kernels, "fuses_masks", lambda dtype: True)
    with torch.inference_mode():
        filled_up = RememberedText(text)
        assert filled_up.mask is not None
        assert filled_up.mask.flatten().tolist() == [0.0] * 77 + [-float("inf")] * 3
        with attention_by(fused=fused):
            found = network(latents, timesteps, filled_up)
        monkeypatch.setattr(cpu_kernels, "fuses_masks", lambda dtype: False)
        plain = RememberedText(text)
        assert plain.mask is None
        expected = network(latents, timesteps, plain)
    assert torch.linalg.norm(found - expected) / torch.linalg.norm(expected) < 1e-5


@pytest.mark.parametrize("tokens", [16, 32, 80])
def test_a_text_that_is_full_or_short_stays_as_it_is(tokens):
    assert RememberedText(torch.randn(1, tokens, 32)).mask is None


def test_training_still_reaches_every_weight():
    network = UNet3D(SMALL).train()
    network(*inputs(2, 2, 8, 8)).square().mean().backward()
    filled_network = filled(UNet3D(SMALL)).requires_grad_(True)
    filled_network(*inputs(2, 2, 8, 8)).square().mean().backward()
    assert all(weight.grad is not None for weight in filled_network.parameters())


@pytest.mark.parametrize(("precision", "digits"), [("fp32", 1e-5), ("bf16", 2e-2)])
def test_every_choice_of_a_layers_form_can_be_measured_and_gives_the_same(precision, digits, capsys):
    from benchmarks.layers import main

    assert main(["--quick", "--frames", "2", "--rounds", "1", "--precision", precision]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) > 15
    assert all(float(row[-2]) < digits for row in rows)


@needs_kernels
def test_blocks_are_packed_while_another_thread_reads_and_all_of_them_by_the_end(monkeypatch):
    network, readers, packers = unet(), set(), set()
    own = packing.pack
    monkeypatch.setattr(packing, "pack", lambda block: packers.add(threading.get_ident()) or own(block))

    def read(completed):
        readers.add(threading.get_ident())
        for block in blocks_of(network):
            completed(block)

    pack_while(read)
    left = [layer for layer in network.modules() if isinstance(layer, Packable) and not layer.is_packed]
    assert not any(layer.is_worth_packing() for layer in left if not layer.is_emptied)
    assert packers == {threading.get_ident()}
    assert len(readers) == 1
    assert not readers & packers


@pytest.mark.parametrize("fails", [False, True])
def test_reading_and_packing_share_the_cores_and_give_them_back(fails, monkeypatch):
    seen, packed, usual = [], threading.Event(), torch.get_num_threads()

    def note(block):
        seen.append(torch.get_num_threads())
        if packed.is_set():
            time.sleep(0.2)  # by then all is read
        packed.set()

    def read(completed):
        seen.append(torch.get_num_threads())
        completed(nn.Linear(1, 1))
        packed.wait(10)
        for _ in range(2):
            completed(nn.Linear(1, 1))
        if fails:
            raise Cancelled

    monkeypatch.setattr(packing, "pack", note)
    try:
        torch.set_num_threads(4)
        with contextlib.suppress(Cancelled):
            pack_while(read)
        assert seen[:2] == [1, 3]
        assert seen[-1] == 4
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(usual)


def test_what_packing_raises_comes_out_and_reading_ends_at_its_next_block(monkeypatch):
    ended, failed = [], threading.Event()

    def fail(block):
        failed.set()
        torch.empty(2**60)

    def read(completed):
        completed(nn.Linear(1, 1))
        failed.wait(10)
        for _ in range(1000):
            completed(nn.Linear(1, 1))
            time.sleep(0.01)
        ended.append(True)

    monkeypatch.setattr(packing, "pack", fail)
    with pytest.raises(RuntimeError, match="memory"):
        pack_while(read)
    assert not ended


def test_what_reading_raises_comes_out_when_what_was_read_is_packed(monkeypatch):
    packed, block = [], nn.Linear(1, 1)
    monkeypatch.setattr(packing, "pack", packed.append)

    def read(completed):
        completed(block)
        raise Cancelled

    with pytest.raises(Cancelled):
        pack_while(read)
    assert packed == [block]


@needs_kernels
def test_the_heap_is_given_back_after_a_block_that_was_packed_and_not_when_there_is_none_left(monkeypatch):
    given_back, network = [], unet()
    monkeypatch.setattr(packing, "empty_cache", given_back.append)
    packing.pack_each(network)
    assert 0 < len(given_back) <= len(list(blocks_of(network)))
    given_back.clear()
    packing.pack_each(network)
    assert not given_back
