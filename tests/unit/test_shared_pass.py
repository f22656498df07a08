"""One clip with several texts: what doesn't see the text is computed once, and each text gets what it would alone."""

import pytest
import torch
from test_packing import SMALL, filled, inputs, needs_kernels

from t2v_core.models.modelscope.attention import RememberedText
from t2v_core.models.modelscope.config import UNetConfig
from t2v_core.models.modelscope.packable import pack
from t2v_core.models.modelscope.shortcuts import Shortcuts, shortened
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.rendering.slicing import sliced

LATENTS, TIMESTEP, _ = inputs(1, 3, 8, 8)
TEXTS = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(2))
BY_FRAME = torch.randn(3, 3, 7, 32, generator=torch.Generator().manual_seed(2))


def alone(network, texts):
    return torch.cat([network(LATENTS, TIMESTEP, text[None]) for text in texts])


@pytest.fixture
def network():
    return filled(UNet3D(SMALL))


@pytest.mark.parametrize("texts", [TEXTS, BY_FRAME, TEXTS[:2], TEXTS[:1]], ids=["three", "by frame", "two", "one"])
@pytest.mark.parametrize("remembers", [False, True])
@torch.inference_mode()
def test_each_text_gets_what_it_would_alone(network, texts, remembers):
    given = RememberedText(texts) if remembers else texts
    assert torch.allclose(network(LATENTS, TIMESTEP, given), alone(network, texts), atol=1e-5)


@needs_kernels
@torch.inference_mode()
def test_so_it_does_packed(network):
    expected = alone(network, TEXTS)
    pack(network)
    assert torch.allclose(network(LATENTS, TIMESTEP, TEXTS), expected, atol=1e-5)


@torch.inference_mode()
def test_layers_before_the_first_text_see_one_clip(network):
    seen = {}
    for name, layer in network.named_modules():
        if name.endswith(("attn1", "attn2", "temopral_conv")):
            layer.register_forward_hook(lambda layer, args, output, name=name: seen.update({name: len(args[0])}))
    network(LATENTS, TIMESTEP, TEXTS)
    once = {name for name, length in seen.items() if length == (LATENTS.shape[2] if name.endswith("conv") else 1)}
    stem, first = "input_blocks.0.1.transformer_blocks.0", "input_blocks.1"
    assert once == {
        f"{stem}.attn1", f"{stem}.attn2", f"{first}.0.temopral_conv", f"{first}.1.transformer_blocks.0.attn1"
    }  # fmt: skip


@torch.inference_mode()
def test_shortcuts_and_slices_know_it_too(network):
    kept = []

    def memo(compute):
        if not kept:
            kept.append(compute())
        return kept[0]

    expected = alone(network, TEXTS)
    for shortcuts in (Shortcuts(memo=memo), Shortcuts(attention_window=3)):
        with shortened(network, shortcuts):
            assert torch.allclose(network(LATENTS, TIMESTEP, TEXTS), expected, atol=1e-5)
    with shortened(network, Shortcuts(merge_tokens=0.5)):
        assert network(LATENTS, TIMESTEP, TEXTS).shape == expected.shape
    with sliced(network):
        assert torch.allclose(network(LATENTS, TIMESTEP, TEXTS), expected, atol=1e-5)


@torch.inference_mode()
def test_a_network_that_never_looks_at_its_text_answers_for_each_of_them():
    blind = filled(
        UNet3D(
            UNetConfig(
                dim=32, dim_mult=(1, 2), num_heads=2, head_dim=16, context_dim=32, norm_groups=8, res_blocks=1,
                attn_scales=(),
            )
        )
    )  # fmt: skip
    blind.middle_block = torch.nn.ModuleList([blind.middle_block[0]])
    found = blind(LATENTS, TIMESTEP, TEXTS)
    assert found.shape == (3, *LATENTS.shape[1:])
    assert torch.equal(found[0], found[2])
