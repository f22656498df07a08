"""Distilled LoRAs in our UNet give what they give in Diffusers', whose own modules name and order the files here."""

from __future__ import annotations

import json
import math

import diffusers_oracle
import pytest
import torch
from model_layouts import write_original
from random_weights import build, distance, fill_through_map, random_input, random_tensor, shapes
from safetensors.torch import save_file
from torch import nn

from t2v_core.models.catalogue import find_model
from t2v_core.models.loading import load_part
from t2v_core.models.lora.applied import AppliedLoras, Dose
from t2v_core.models.lora.file import Kind, read_lora
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import AutoencoderConfig, ModelConfig, TextConfig, UNetConfig
from t2v_core.models.modelscope.text_encoder import TextEncoder
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.models.modelscope.vae import Autoencoder

CONFIG = ModelConfig(
    unet=UNetConfig(dim=32, dim_mult=(1, 2, 3), context_dim=32, head_dim=8, norm_groups=4, res_blocks=2),
    vae=AutoencoderConfig(dim=16, dim_mult=(1, 2), res_blocks=1, norm_groups=8),
    text=TextConfig(width=32, layers=3, heads=2, vocab_size=96),
)
RANK, ALPHA = 6, 3
INPUTS = (random_input("latents", 2, 4, 3, 8, 8), torch.tensor([999, 259]), random_input("text", 2, 5, 32))

# What MCM's authors train: layers whose names end so, but for the convolutions over time.
MCM_ENDS = (
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2",
    "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    states = {}
    for part, network in (
        (Part.UNET, UNet3D(CONFIG.unet)),
        (Part.TEXT, TextEncoder(CONFIG.text)),
        (Part.AUTOENCODER, Autoencoder(CONFIG.vae)),
    ):
        states[part] = {name: random_tensor(name, shape) for name, shape in shapes(network).items()}
    write_original(tmp_path / "models" / "mine", CONFIG, states)
    return find_model("mine", [tmp_path / "models"])


def theirs(*, with_guidance: bool) -> nn.Module:
    """Diffusers' network with our weights; the guidance's projection, which the base hasn't, is nothing."""
    names = shapes(build(lambda: UNet3D(CONFIG.unet)))
    plain = build(lambda: diffusers_oracle.unet(CONFIG.unet))
    plain = fill_through_map(plain, names, diffusers_oracle.unet_sources(CONFIG.unet))
    if not with_guidance:
        return plain
    network = type(plain).from_config(plain.config, time_cond_proj_dim=256).eval().requires_grad_(False)
    missing = network.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing == ["time_embedding.cond_proj.weight"]
    network.time_embedding.cond_proj.weight.zero_()
    return network


def pair_for(layer: nn.Module, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Up and down as cloneofsimo's and PEFT's layers have them, with the larger effect that a test wants."""
    weight, generator = layer.weight, torch.Generator().manual_seed(seed)
    rank = min(RANK, *weight.shape[:2])
    up = torch.randn(weight.shape[0], rank, *[1] * (weight.ndim - 2), generator=generator)
    down = torch.randn(rank, *weight.shape[1:], generator=generator)
    return up / 4, down / weight[0].numel() ** 0.5


def collapse(layer: nn.Module, pair: tuple[torch.Tensor, torch.Tensor], scale: float) -> None:
    up, down = pair
    layer.weight += scale * (up.flatten(1) @ down.flatten(1)).reshape(layer.weight.shape)


def ours(folder, path, *, guidance: float | None = None, weight: float = 1.0):
    network = load_part(folder, Part.UNET)
    lora = read_lora(path, CONFIG)
    applied = AppliedLoras(folder)
    applied.wanted = (Dose(lora, weight),)
    applied.update(Part.UNET, network)
    network.guidance = applied.guidance_embedding(guidance) if guidance is not None else None
    return network, lora


def test_t2v_turbos_nameless_list_with_embedded_guidance(folder, tmp_path):
    network, tensors = theirs(with_guidance=True), []
    layers = [layer for layer in network.modules() if isinstance(layer, (nn.Linear, nn.Conv2d, nn.Conv3d))]
    for seed, layer in enumerate(layers):
        pair = pair_for(layer, seed)
        tensors += pair
        collapse(layer, pair, 1.0)
    torch.save(tensors, tmp_path / "unet_lora.pt")
    scale = 7.5
    frequencies = torch.exp(torch.arange(128) * (-math.log(10000) / 127))
    angles = scale * 1000 * frequencies
    embedded = torch.cat([angles.sin(), angles.cos()]).expand(2, -1)
    expected = network(*INPUTS, timestep_cond=embedded).sample

    mine, lora = ours(folder, tmp_path / "unet_lora.pt", guidance=scale)
    assert lora.kind is Kind.T2V_TURBO
    assert distance(mine(*INPUTS), expected).worst < 1e-4  # theirs takes the sines of 7500 in float32
    mine.guidance = None
    assert distance(mine(*INPUTS), expected).worst > 1e-2


@pytest.mark.parametrize("weight", [1.0, -0.5])
def test_mcms_peft_folder(folder, tmp_path, weight):
    network, tensors = theirs(with_guidance=False), {}
    for seed, (name, layer) in enumerate(network.named_modules()):
        if name.endswith(MCM_ENDS) and not ("temp" in name and "conv" in name):
            up, down = pair_for(layer, seed)
            tensors |= {
                f"base_model.model.{name}.lora_A.weight": down.contiguous(),
                f"base_model.model.{name}.lora_B.weight": up.contiguous(),
            }
            collapse(layer, (up, down), weight * ALPHA / RANK)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    expected = network(*INPUTS).sample
    mine, lora = ours(folder, tmp_path / "adapter_model.safetensors", weight=weight)
    assert lora.kind is Kind.MCM
    assert distance(mine(*INPUTS), expected).worst < 1e-5
