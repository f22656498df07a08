"""Writes LoRAs of random values as trainers and authors do, with the changes that they stand for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

Pair = tuple[Tensor, Tensor]
"""Up and down."""

Change = dict[str, Tensor]
"""What is added to our tensors, by name, float32."""

RANK, ALPHA = 4, 2.0

# A layer of each kind: ours, Diffusers' name, and the weight's shape in a UNet of `model_layouts.TINY`.
LAYERS = {
    "input_blocks.0.0": ("conv_in", (32, 4, 3, 3)),
    "input_blocks.0.1.proj_in": ("transformer_in.proj_in", (64, 32, 1)),
    "input_blocks.1.0.in_layers.2": ("down_blocks.0.resnets.0.conv1", (32, 32, 3, 3)),
    "input_blocks.1.0.emb_layers.1": ("down_blocks.0.resnets.0.time_emb_proj", (32, 128)),
    "input_blocks.1.0.temopral_conv.conv2.3": ("down_blocks.0.temp_convs.0.conv2.3", (32, 32, 3, 1, 1)),
    "input_blocks.1.1.proj_in": ("down_blocks.0.attentions.0.proj_in", (32, 32)),
    "input_blocks.1.1.transformer_blocks.0.attn1.to_q": (
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", (32, 32)),
    "input_blocks.1.1.transformer_blocks.0.attn2.to_k": (
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k", (32, 32)),
    "input_blocks.1.1.transformer_blocks.0.attn2.to_out.0": (
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0", (32, 32)),
    "input_blocks.1.2.transformer_blocks.0.ff.net.0.proj": (
        "down_blocks.0.temp_attentions.0.transformer_blocks.0.ff.net.0.proj", (256, 32)),
    "input_blocks.2.op": ("down_blocks.0.downsamplers.0.conv", (32, 32, 3, 3)),
    "middle_block.3.out_layers.3": ("mid_block.resnets.1.conv2", (64, 64, 3, 3)),
    "output_blocks.1.1.conv": ("up_blocks.0.upsamplers.0.conv", (64, 64, 3, 3)),
    "output_blocks.3.0.skip_connection": ("up_blocks.1.resnets.1.conv_shortcut", (32, 64, 1, 1)),
    "out.2": ("conv_out", (4, 32, 3, 3)),
}  # fmt: skip
ATTENTION = {ours: row for ours, row in LAYERS.items() if ".attn" in ours}


def random_pair(shape: tuple[int, ...], *, rank: int = RANK, seed: int = 0) -> Pair:
    """Up (o, r, 1 ...) and down (r, i, ...) for a weight of Diffusers' shape; no rank above the smaller side."""
    generator = torch.Generator().manual_seed(seed)
    rank = min(rank, shape[0], shape[1])
    up = torch.randn(shape[0], rank, *[1] * (len(shape) - 2), generator=generator) * 0.1
    return up, torch.randn(rank, *shape[1:], generator=generator) * 0.1


def product(pair: Pair, shape: tuple[int, ...]) -> Tensor:
    up, down = pair
    return (up.flatten(1) @ down.flatten(1)).reshape(shape)


def _pairs(layers: Mapping[str, tuple[str, tuple[int, ...]]], *, ours: bool = False) -> dict[str, tuple[Pair, Change]]:
    """A pair for each layer under its name in the file, with the change it stands for."""
    found = {}
    for seed, (name, (theirs, shape)) in enumerate(layers.items()):
        # Where ours is a kernel of one element over frames, Diffusers has a matrix.
        pair = random_pair(shape[:2] if len(shape) == 3 else shape, seed=seed)
        found[name if ours else theirs] = pair, {f"{name}.weight": product(pair, shape)}
    return found


def _scaled(pairs: Mapping[str, tuple[Pair, Change]], scale: float = 1.0) -> Change:
    return {name: value * scale for _, change in pairs.values() for name, value in change.items()}


def write_peft(folder: Path) -> tuple[Path, Change]:
    """A folder with its settings, as `save_pretrained` leaves it."""
    pairs = _pairs(LAYERS)
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA}))
    path, _ = write_peft_alone(folder / "adapter_model.safetensors")
    # conv_in and conv_out have a rank of 4 at most, which is RANK.
    return path, _scaled(pairs, ALPHA / RANK)


def write_peft_alone(path: Path) -> tuple[Path, Change]:
    pairs = _pairs(LAYERS)
    tensors = {}
    for name, ((up, down), _) in pairs.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = down
        tensors[f"base_model.model.{name}.lora_B.weight"] = up
    return _save(tensors, path), _scaled(pairs)


def write_kohya(path: Path) -> tuple[Path, Change]:
    pairs = _pairs(LAYERS)
    tensors = {}
    for name, ((up, down), _) in pairs.items():
        flat = "lora_unet_" + name.replace(".", "_")
        tensors |= {
            f"{flat}.lora_up.weight": up,
            f"{flat}.lora_down.weight": down,
            f"{flat}.alpha": torch.tensor(ALPHA),
        }
    return _save(tensors, path), _scaled(pairs, ALPHA / RANK)


def write_diffusers(path: Path) -> tuple[Path, Change]:
    pairs = _pairs(LAYERS)
    tensors = {}
    for name, ((up, down), _) in pairs.items():
        tensors |= {f"unet.{name}.lora.up.weight": up, f"unet.{name}.lora.down.weight": down}
    return _save(tensors, path), _scaled(pairs)


def write_diffusers_peft(path: Path) -> tuple[Path, Change]:
    """As newer ones write it, with the alphas that some converters put beside."""
    pairs = _pairs(LAYERS)
    tensors = {}
    for name, ((up, down), _) in pairs.items():
        tensors |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
        tensors[f"unet.{name}.alpha"] = torch.tensor(ALPHA)
    return _save(tensors, path), _scaled(pairs, ALPHA / RANK)


def write_processors(path: Path) -> tuple[Path, Change]:
    """Diffusers' first form, of attention alone, as a torch file."""
    pairs = _pairs(ATTENTION)
    tensors = {}
    for name, ((up, down), _) in pairs.items():
        layer, _, which = name.removesuffix(".0").rpartition(".")
        tensors |= {
            f"{layer}.processor.{which}_lora.up.weight": up,
            f"{layer}.processor.{which}_lora.down.weight": down,
        }
    torch.save(tensors, path.with_suffix(".bin"))
    return path.with_suffix(".bin"), _scaled(pairs)


def write_stable(path: Path, *, ours: bool = False) -> tuple[Path, Change]:
    """loralb's: kernels as one matrix, and over frames the mean over the side that isn't there; one bias."""
    tensors, change = {}, {}
    for seed, (name, (theirs, shape)) in enumerate(LAYERS.items()):
        generator = torch.Generator().manual_seed(seed)
        out, into, size = shape[0], shape[1], shape[2] if len(shape) > 2 else 1
        down = torch.randn(2 * size, into * size, generator=generator) * 0.1
        up = torch.randn(out * size, 2 * size, generator=generator) * 0.1
        both = up @ down
        if len(shape) == 5:
            both = both.view(out, into, size, size, 1).mean(dim=-2, keepdim=True)
        change[f"{name}.weight"] = both.reshape(shape)
        layer = name if ours else theirs
        # The converter to our names gives projections an axis more.
        more = (None,) if ours and ".proj_" in name else ()
        tensors |= {f"{layer}.lora_A": down[(..., *more)], f"{layer}.lora_B": up[(..., *more)]}
    tensors[f"{'out.2' if ours else 'conv_out'}.bias"] = torch.full((4,), 0.25)
    return _save(tensors, path), change


def write_stable_ours(path: Path) -> tuple[Path, Change]:
    return write_stable(path, ours=True)


def _save(tensors: Mapping[str, Any], path: Path) -> Path:
    path = path if path.suffix == ".safetensors" else path.with_suffix(".safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    return path


FORMATS: dict[str, Callable[[Path], tuple[Path, Change]]] = {
    "PEFT folder": write_peft,
    "PEFT file alone": write_peft_alone,
    "kohya": write_kohya,
    "Diffusers": write_diffusers,
    "Diffusers with PEFT": write_diffusers_peft,
    "Diffusers' processors": write_processors,
    "stable LoRA": write_stable,
    "stable LoRA for the WebUI": write_stable_ours,
}
"""Named formats: a function that writes one and says what it adds at weight 1."""
