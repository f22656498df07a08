"""What a network does on a GPU, pretended on the CPU: channels last, clips together, one product for three."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from model_layouts import TINY, random_states
from torch import nn

from t2v_core.models import cpu_kernels
from t2v_core.models.modelscope import channels_last
from t2v_core.models.modelscope.channels_last import (
    GroupNorm,
    norm_by_channels,
    norm_channels_last,
    norms_by_channels,
    turn_kernels,
)
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.layers import FramewiseConv, JoinedLinear
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.models.modelscope.vae import Autoencoder, PlaceAttention
from t2v_core.rendering import residence as residence_module
from t2v_core.rendering.layout import join_projections, lay_out, separate_projections
from t2v_core.rendering.offload import BlockStream
from t2v_core.rendering.page_locked import PageLocked
from t2v_core.rendering.residence import Residence
from t2v_core.rendering.upcast import widen_on_use

mixes_formats = pytest.mark.skipif(
    tuple(int(number) for number in torch.__version__.split(".")[:2]) < (2, 3),
    reason="this torch adds and multiplies formats of two kinds on GPUs alone",
)

KINDS = {Part.UNET: (UNet3D, TINY.unet), Part.AUTOENCODER: (Autoencoder, TINY.vae)}


def network(part, dtype=torch.float32):
    kind, config = KINDS[part]
    made = kind(config)
    made.load_state_dict(random_states(TINY)[part], strict=True, assign=True)
    return made.to(dtype).requires_grad_(False).eval()


def run(made, part, batch=2):
    generator, dtype = torch.Generator().manual_seed(0), next(made.parameters()).dtype

    def some(*shape):
        return torch.randn(shape, generator=generator).to(dtype)

    with torch.inference_mode():
        if part is Part.AUTOENCODER:
            return made.decode(some(2, 4, 6, 5))
        return made(some(batch, 4, 3, 8, 6), torch.full((batch,), 321.0), some(batch, 7, TINY.unet.context_dim))


def pretend_cuda(monkeypatch):
    """Let group norms go their own way, in whatever format."""
    monkeypatch.setattr(GroupNorm, "forward", lambda norm, x: norm_channels_last(x, norm))


def is_last(maps):
    return maps.movedim(1, -1).is_contiguous()


@mixes_formats
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(2, 32, 5, 7), (1, 64, 3, 20), (3, 16, 9)])
@pytest.mark.parametrize("last", [True, False])
def test_the_norm_is_torchs_and_its_result_lies_as_what_it_was_given(dtype, shape, last):
    generator = torch.Generator().manual_seed(1)
    x = 3 + 2 * torch.randn(shape, generator=generator)
    x = (x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x).to(dtype)
    norm = GroupNorm(8, shape[1], eps=1e-6).to(dtype)
    for weight in norm.parameters():
        nn.init.normal_(weight, generator=generator)
    with torch.inference_mode():
        exact = F.group_norm(x.double(), 8, norm.weight.double(), norm.bias.double(), 1e-6)
        found, native = norm_channels_last(x, norm), norm(x)
    assert found.dtype is dtype
    assert found[0].stride() == x[0].stride()
    error, usual = ((value.double() - exact).abs().max() for value in (found, native))
    assert error <= 1.01 * usual + 1e-9, "no digit is lost beside torch's own"


@pytest.mark.skipif(not norms_by_channels(torch.bfloat16), reason="this torch has no mixed batch norm")
@pytest.mark.parametrize("groups", [1, 8, 16])
@pytest.mark.parametrize("shape", [(3, 16, 16, 16), (1, 32, 8, 41), (2, 16, 24, 30), (1, 16, 1, 256)])
def test_a_norm_by_channels_on_a_processor_is_torchs(shape, groups, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    x = 3 + 2 * torch.randn(shape, generator=generator) * torch.arange(1, 1 + shape[1]).view(1, -1, 1, 1)
    x = x.bfloat16().contiguous(memory_format=torch.channels_last)
    norm = GroupNorm(groups, shape[1], eps=1e-6).to(x.dtype)
    for weight in norm.parameters():
        nn.init.normal_(weight, generator=generator)
    before, calls = x.clone(), []
    monkeypatch.setattr(channels_last, "norm_by_channels", lambda x, norm: calls.append(0) or norm_by_channels(x, norm))
    with torch.inference_mode():
        exact = F.group_norm(x.double(), groups, norm.weight.double(), norm.bias.double(), 1e-6)
        found, native = norm(x), nn.GroupNorm.forward(norm, x)
    assert calls, "it isn't the way that the layer takes"
    assert torch.equal(x, before)
    assert found.dtype is x.dtype
    assert found.stride() == x.stride()
    error, usual = (torch.linalg.norm(value.double() - exact) for value in (found, native))
    assert error <= 1.01 * usual, "no digit is lost beside torch's own"


@pytest.mark.parametrize(
    "x",
    [
        torch.ones(1, 8, 15, 17, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last),
        torch.ones(1, 8, 32, 32, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last),
        torch.ones(1, 8, 300, dtype=torch.bfloat16),
        torch.ones(2, 8, 16, 16, dtype=torch.bfloat16),
        torch.ones(2, 8, 16, 16).contiguous(memory_format=torch.channels_last),
    ],
    ids=["few places", "many places", "no maps", "channels first", "32 bits"],
)
def test_other_norms_on_a_processor_are_left_to_torch(x, monkeypatch):
    monkeypatch.setattr(channels_last, "norm_by_channels", None)
    with torch.inference_mode():
        assert GroupNorm(2, 8).to(x.dtype)(x).shape == x.shape


@mixes_formats
def test_large_numbers_of_16_bits_do_not_overflow():
    norm = GroupNorm(1, 16).half()
    x = torch.full((1, 16, 4, 4), 60000.0, dtype=torch.half)
    x[:, ::2] = -60000.0
    with torch.inference_mode():
        assert torch.allclose(norm_channels_last(x, norm).float().abs(), torch.ones(1), atol=1e-3)


def test_on_a_cpu_for_training_and_in_32_bits_the_norm_is_torchs_own(monkeypatch):
    monkeypatch.setattr(channels_last, "norm_channels_last", None)
    x = torch.randn(2, 8, 3, 3)
    assert torch.equal(GroupNorm(2, 8)(x), F.group_norm(x, 2, torch.ones(8), torch.zeros(8)))


@pytest.mark.parametrize("part", KINDS)
def test_no_layer_turns_the_maps_or_kernels_that_a_convolution_gets(part, monkeypatch):
    plain, made, seen = network(part), network(part), []
    expected = run(plain, part)
    pretend_cuda(monkeypatch)
    lay_out(made, kind="cuda", dtype=torch.float16)
    convolve = F.conv2d

    def look(x, weight, *args, **kwargs):
        seen.append((is_last(x), is_last(weight)))
        return convolve(x, weight, *args, **kwargs)

    monkeypatch.setattr(F, "conv2d", look)
    monkeypatch.setattr(nn.Conv2d, "_conv_forward", lambda conv, x, weight, bias: look(
        x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups))  # fmt: skip
    found = run(made, part)
    assert len(seen) > 10
    assert all(maps and kernel for maps, kernel in seen)
    assert torch.linalg.norm(found - expected) / torch.linalg.norm(expected) < 1e-5


def test_attention_over_the_places_of_a_picture_gets_vectors_that_lie_side_by_side(monkeypatch):
    """Or no fused kernel of a GPU takes it."""
    seen = []
    attention = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *given, **more: seen.extend(given) or attention(*given, **more)
    )
    with torch.inference_mode():
        PlaceAttention(32, 8)(torch.randn(2, 32, 4, 4))  # channels first, as a norm of CUDA's leaves it
    assert len(seen) == 3
    assert all(part.stride(-1) == 1 for part in seen)


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_on_a_gpu_all_clips_go_through_the_convolutions_over_frames_at_once(kind, monkeypatch):
    made = network(Part.UNET)
    expected, batches = run(made, Part.UNET), []
    lay_out(made, kind=kind, dtype=torch.float32)
    forward = FramewiseConv.forward
    monkeypatch.setattr(
        FramewiseConv, "forward", lambda conv, x, **more: batches.append(len(x)) or forward(conv, x, **more)
    )
    found = run(made, Part.UNET)
    assert set(batches) == {2}
    assert torch.allclose(found, expected, atol=1e-5)
    lay_out(made, kind="cpu", dtype=torch.float32)
    batches.clear()
    assert torch.equal(run(made, Part.UNET), expected)
    assert set(batches) == {1}


def test_turned_kernels_are_the_same_numbers_and_stay_turned_while_they_are_streamed():
    made = network(Part.UNET)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    expected = run(made, Part.UNET)
    turn_kernels(made)
    stream = BlockStream(made, device="cpu", pinned=False)
    seen = []
    for layer in made.modules():
        if isinstance(layer, FramewiseConv):
            layer.register_forward_pre_hook(lambda layer, args: seen.append(is_last(layer.weight[..., 0])))
    assert torch.allclose(run(made, Part.UNET), expected, atol=1e-5)
    stream.close()
    assert seen
    assert all(seen)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_page_locked_memory_is_taken_in_large_pieces_whose_sizes_are_powers_of_two():
    taken = []
    memory = PageLocked(lambda count: taken.append(count) or torch.zeros(count, dtype=torch.uint8))
    small = [memory.take(count) for count in (3, 300, 1000)]
    for number, part in enumerate(small):
        part.fill_(number + 1)
    assert [len(part) for part in small] == [3, 300, 1000]
    assert [set(part.tolist()) for part in small] == [{1}, {2}, {3}], "none lies in another"
    assert all(part.data_ptr() % 8 == taken[0] % 8 for part in small)
    assert len(taken) == 1
    large = memory.take(taken[0])
    assert len(large) == taken[1] == taken[0]
    assert len(memory.take(2 * taken[0] + 1)) == taken[2] // 2 + 1
    assert all(count & (count - 1) == 0 for count in taken)


def test_projections_of_the_same_tokens_are_one_product_until_they_are_separated(monkeypatch):
    made = network(Part.UNET)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    expected, products = run(made, Part.UNET), []
    multiply = F.linear
    monkeypatch.setattr(F, "linear", lambda x, weight, *bias: products.append(1) or multiply(x, weight, *bias))
    monkeypatch.setattr(cpu_kernels, "usable", lambda dtype: False)
    run(made, Part.UNET)
    apart, joined = len(products), [layer for layer in made.modules() if isinstance(layer, JoinedLinear)]
    join_projections(made)
    join_projections(made)
    products.clear()
    assert torch.allclose(run(made, Part.UNET), expected, atol=1e-5)
    assert len(products) == apart - 2 * len(joined)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    with torch.no_grad():
        joined[0]._layers[2].weight.data.mul_(-20.0)  # as a LoRA does
    changed = run(made, Part.UNET)
    assert not torch.allclose(changed, expected, atol=1e-3)
    separate_projections(made)
    assert torch.allclose(run(made, Part.UNET), changed, atol=1e-5)


def test_projections_whose_weights_are_widened_while_they_run_stay_apart():
    made = network(Part.UNET, torch.bfloat16)
    widen_on_use(made, torch.float32)
    join_projections(made)
    assert not any(layer._joined is not None for layer in made.modules() if isinstance(layer, JoinedLinear))


def test_a_part_that_moves_has_its_projections_joined_where_it_works_and_separate_where_it_waits(monkeypatch):
    monkeypatch.setattr(residence_module, "kind_of", lambda device: "another")
    residence = Residence("cpu")
    unet = residence.part(Part.UNET, lambda device: network(Part.UNET))
    joined = [layer for layer in unet.modules() if isinstance(layer, JoinedLinear)]
    assert joined
    assert all(layer._joined is not None for layer in joined)
    assert all(not weight.is_inference() for weight in unet.parameters())
    monkeypatch.setattr(residence, "_streams", lambda name: True)
    residence.part(Part.UNET, lambda device: None)
    assert all(layer._joined is None for layer in joined)
