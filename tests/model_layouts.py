"""Writes a model in every layout that people have, small or full-size, from one set of weights."""

from __future__ import annotations

import dataclasses
import json
import pickle
import struct
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from t2v_core.models.modelscope.checkpoint import Part, spellings
from t2v_core.models.modelscope.config import AutoencoderConfig, ModelConfig, TextConfig, UNetConfig
from t2v_core.models.modelscope.text_encoder import TextEncoder
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.models.modelscope.vae import Autoencoder

State = dict[str, Tensor]
States = Mapping[Part, State]

TINY = ModelConfig(
    unet=UNetConfig(dim=32, head_dim=8, num_heads=8, context_dim=32, dim_mult=(1, 2), res_blocks=1, attn_scales=(1.0,),
                    norm_groups=8),
    vae=AutoencoderConfig(dim=16, dim_mult=(1, 2), res_blocks=1, norm_groups=8),
    text=TextConfig(width=32, layers=3, heads=2, vocab_size=96),
)  # fmt: skip

TINY_CLIPS = dataclasses.replace(
    TINY,
    vae=AutoencoderConfig(dim=16, res_blocks=1, norm_groups=8),
    text=TextConfig(width=32, layers=3, heads=2),
)
"""With the published model's pixels in a latent cell, and its tokens."""

UNET, TEXT, VQGAN = "text2video_pytorch_model", "open_clip_pytorch_model", "VQGAN_autoencoder"


def build(part: Part, config: ModelConfig) -> nn.Module:
    """The network of a part, without memory for its weights."""
    with torch.device("meta"):
        if part is Part.TEXT:
            return TextEncoder(config.text)
        return UNet3D(config.unet) if part is Part.UNET else Autoencoder(config.vae)


def random_state(part: Part, config: ModelConfig, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> State:
    """Small random values for every tensor of a part, under our names."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: value.shape for name, value in build(part, config).state_dict().items()}
    return {name: (torch.randn(shape, generator=generator) * 0.05).to(dtype) for name, shape in shapes.items()}


def random_states(config: ModelConfig = TINY, *, dtype: torch.dtype = torch.float32) -> dict[Part, State]:
    """All parts' random values."""
    return {part: random_state(part, config, dtype=dtype, seed=index) for index, part in enumerate(Part)}


def respelt(part: Part, state: State, config: ModelConfig, spelling: str) -> State:
    """A state dict of our names under those of "Diffusers", "older Diffusers" or "transformers"."""
    sources = next(row.sources for row in spellings(part, config) if row.name == spelling)
    theirs = {}
    for name, value in state.items():
        names = sources(name)
        for target, piece in zip(names, value.chunk(len(names)), strict=True):
            is_projection = spelling != "original" and (
                ".proj_in." in name or ".proj_out." in name or ".attn_1." in name
            )
            flat = is_projection and value.ndim in (3, 4) and value.shape[2:].numel() == 1
            theirs[target] = (piece.reshape(piece.shape[:2]) if flat else piece).contiguous()
    return theirs


# --- single files ---------------------------------------------------------------------------------------------------


def write_configuration(folder: Path, config: ModelConfig, **model_args: str) -> None:
    document = config.to_dict()
    document["model"]["model_args"] |= model_args
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "configuration.json").write_text(json.dumps(document), encoding="utf-8")


@contextmanager
def lightning_module() -> Iterator[type]:
    """A stand-in for the class that the original autoencoder's file names, importable only inside."""
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    checkpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    module.ModelCheckpoint = checkpoint  # type: ignore[attr-defined]
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", module.__name__]
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(dict.fromkeys(names, module))
    try:
        yield checkpoint
    finally:
        for name, old in before.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old


def training_checkpoint(state: State) -> dict[str, Any]:
    """The autoencoder inside a whole Stable Diffusion 2 checkpoint with what training left there, as published."""
    import numpy as np

    others = {
        "betas": torch.zeros(10),
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 4),
        "cond_stage_model.model.logit_scale": torch.zeros(()),
        "loss.discriminator.main.0.weight": torch.zeros(2, 2),
        "model_ema.decay": torch.zeros(()),
    }
    with lightning_module() as callback:
        return {
            "epoch": 7,
            "pytorch-lightning_version": "1.4.2",
            "state_dict": others | {f"first_stage_model.{name}": value for name, value in state.items()},
            "callbacks": {callback: {"best_model_score": np.float32(0.5), "best": np.arange(3), "path": "a.ckpt"}},
            "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
        }


def save_training_checkpoint(state: State, path: Path) -> None:
    document = training_checkpoint(state)
    callback = next(iter(document["callbacks"]))
    with lightning_module():
        sys.modules[callback.__module__].ModelCheckpoint = callback  # type: ignore[attr-defined]
        torch.save(document, path)


def with_unused_text(state: State, config: ModelConfig) -> State:
    """The text tower with what its file holds beside it: the last layer, the projection, the vision half."""
    last, first = f"transformer.resblocks.{config.text.layers - 1}.", "transformer.resblocks.0."
    extra = {last + name.removeprefix(first): value for name, value in state.items() if name.startswith(first)}
    extra["text_projection"] = torch.zeros(config.text.width, 8)
    extra["logit_scale"] = torch.zeros(())
    extra["visual.conv1.weight"] = torch.zeros(4, 3, 2, 2)
    return state | extra


# --- whole folders --------------------------------------------------------------------------------------------------


def write_original(folder: Path, config: ModelConfig, states: States) -> None:
    write_configuration(folder, config)
    torch.save(states[Part.UNET], folder / f"{UNET}.pth")
    torch.save(OrderedDict(with_unused_text(states[Part.TEXT], config)), folder / f"{TEXT}.bin")
    save_training_checkpoint(states[Part.AUTOENCODER], folder / f"{VQGAN}.pth")


def write_wrapped(folder: Path, config: ModelConfig, states: States) -> None:
    """As trainers save: parameters, wrapped, with data-parallel prefixes, in the format before torch 1.6."""
    write_configuration(folder, config)
    unet = {f"module.{name}": nn.Parameter(value) for name, value in states[Part.UNET].items()}
    torch.save({"state_dict": unet, "step": 3}, folder / f"{UNET}.pth", _use_new_zipfile_serialization=False)
    torch.save({"model": states[Part.TEXT]}, folder / f"{TEXT}.bin")
    torch.save(states[Part.AUTOENCODER], folder / f"{VQGAN}.pth", pickle_protocol=4)


def write_original_safetensors(folder: Path, config: ModelConfig, states: States) -> None:
    write_configuration(folder, config)
    for part, stem in ((Part.UNET, UNET), (Part.TEXT, TEXT), (Part.AUTOENCODER, VQGAN)):
        prefix = "first_stage_model." if part is Part.AUTOENCODER else ""
        save_file({prefix + name: value for name, value in states[part].items()}, folder / f"{stem}.safetensors")


def diffusers_configs(config: ModelConfig) -> dict[str, dict[str, Any]]:
    """What a Diffusers folder's JSON files say about a model of this size."""
    unet, vae, text, noise = config.unet, config.vae, config.text, config.noise
    levels = range(len(unet.dim_mult))
    down = [f"{'CrossAttn' * (1 / 2**level in unet.attn_scales)}DownBlock3D" for level in levels]
    return {
        "unet/config.json": {
            "_class_name": "UNet3DConditionModel",
            "in_channels": unet.in_dim,
            "out_channels": unet.out_dim,
            "block_out_channels": [unet.dim * mult for mult in unet.dim_mult],
            "down_block_types": down,
            "up_block_types": [kind.replace("Down", "Up") for kind in reversed(down)],
            "layers_per_block": unet.res_blocks,
            "norm_num_groups": unet.norm_groups,
            "cross_attention_dim": unet.context_dim,
            "attention_head_dim": unet.head_dim,
            "act_fn": "silu",
        },
        "vae/config.json": {
            "_class_name": "AutoencoderKL",
            "block_out_channels": [vae.dim * mult for mult in vae.dim_mult],
            "layers_per_block": vae.res_blocks,
            "latent_channels": vae.z_dim,
            "norm_num_groups": vae.norm_groups,
            "scaling_factor": vae.scale_factor,
        },
        "text_encoder/config.json": {
            "architectures": ["CLIPTextModel"],
            "hidden_act": "gelu",
            "hidden_size": text.width,
            "intermediate_size": 4 * text.width,
            "num_hidden_layers": text.layers - 1,
            "num_attention_heads": text.heads,
            "max_position_embeddings": text.context_length,
            "vocab_size": text.vocab_size,
        },
        "scheduler/scheduler_config.json": {
            "_class_name": "DDIMScheduler",
            "beta_schedule": noise.beta_schedule,
            "beta_start": noise.beta_start,
            "beta_end": noise.beta_end,
            "prediction_type": {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}[noise.prediction],
            "num_train_timesteps": noise.num_timesteps,
        },
    }


def write_json(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")


_DIFFUSERS = {Part.UNET: ("unet", "diffusion_pytorch_model", "Diffusers"),
              Part.AUTOENCODER: ("vae", "diffusion_pytorch_model", "Diffusers"),
              Part.TEXT: ("text_encoder", "model", "transformers")}  # fmt: skip


def write_diffusers(folder: Path, config: ModelConfig, states: States, *, variant: str = "") -> None:
    for name, document in diffusers_configs(config).items():
        write_json(folder / name, document)
    write_json(folder / "model_index.json", {"_class_name": "TextToVideoSDPipeline"})
    for part, (subfolder, stem, spelling) in _DIFFUSERS.items():
        prefix = "text_model." if part is Part.TEXT else ""
        theirs = {prefix + name: value for name, value in respelt(part, states[part], config, spelling).items()}
        if part is Part.TEXT:
            theirs["text_model.embeddings.position_ids"] = torch.arange(config.text.context_length)[None]
        save_file(theirs, folder / subfolder / f"{stem}{variant}.safetensors")


def write_diffusers_variant(folder: Path, config: ModelConfig, states: States) -> None:
    write_diffusers(folder, config, states, variant=".fp16")


def write_diffusers_bin(folder: Path, config: ModelConfig, states: States) -> None:
    """.bin files, and the autoencoder with its attention as older Diffusers named it."""
    for name, document in diffusers_configs(config).items():
        write_json(folder / name, document)
    for part, (subfolder, stem, spelling) in _DIFFUSERS.items():
        older = "older Diffusers" if part is Part.AUTOENCODER else spelling
        name = "pytorch_model.bin" if part is Part.TEXT else f"{stem}.bin"
        torch.save(respelt(part, states[part], config, older), folder / subfolder / name)


def write_diffusers_sharded(folder: Path, config: ModelConfig, states: States, *, suffix: str = ".safetensors") -> None:
    write_diffusers(folder, config, states)
    for part, (subfolder, stem, spelling) in _DIFFUSERS.items():
        (folder / subfolder / f"{stem}.safetensors").unlink()
        theirs = list(respelt(part, states[part], config, spelling).items())
        write_shards(folder / subfolder, stem, theirs, suffix=suffix)


def write_shards(folder: Path, stem: str, tensors: list[tuple[str, Tensor]], *, suffix: str) -> None:
    half, weight_map = len(tensors) // 2, {}
    for number, shard in enumerate((tensors[:half], tensors[half:]), start=1):
        name = f"{stem}-0000{number}-of-00002{suffix}"
        if suffix == ".safetensors":
            save_file(dict(shard), folder / name)
        else:
            torch.save(dict(shard), folder / name)
        weight_map |= dict.fromkeys(dict(shard), name)
    write_json(folder / f"{stem}{suffix}.index.json", {"metadata": {}, "weight_map": weight_map})


def write_diffusers_sharded_bin(folder: Path, config: ModelConfig, states: States) -> None:
    write_diffusers_sharded(folder, config, states, suffix=".bin")


def write_zeroscope(folder: Path, config: ModelConfig, states: States) -> None:
    """Its configuration.json points to the autoencoder one folder up."""
    write_configuration(folder, config, ckpt_autoencoder="../VQGAN_autoencoder.pth")
    torch.save(states[Part.UNET], folder / f"{UNET}.pth")
    torch.save(with_unused_text(states[Part.TEXT], config), folder / f"{TEXT}.bin")
    save_training_checkpoint(states[Part.AUTOENCODER], folder.parent / f"{VQGAN}.pth")


def write_borrower(folder: Path, config: ModelConfig, states: States) -> None:
    """Only a UNet and a text tower, beside a complete model in `t2v`."""
    write_original(folder.parent / "t2v", config, states)
    write_configuration(folder, config)
    torch.save(states[Part.UNET], folder / f"{UNET}.pth")
    torch.save(states[Part.TEXT], folder / f"{TEXT}.bin")


def write_dark(folder: Path, config: ModelConfig, states: States) -> None:
    """NAME.pth and NAME_text.bin that want renaming."""
    write_borrower(folder, config, states)
    (folder / f"{UNET}.pth").rename(folder / "zeroscope_v2_dark_30x448x256.pth")
    (folder / f"{TEXT}.bin").rename(folder / "zeroscope_v2_dark_30x448x256_text.bin")


LAYOUTS: dict[str, Callable[[Path, ModelConfig, States], None]] = {
    "original": write_original,
    "wrapped by a trainer": write_wrapped,
    "original safetensors": write_original_safetensors,
    "diffusers": write_diffusers,
    "diffusers fp16 variant": write_diffusers_variant,
    "diffusers bin": write_diffusers_bin,
    "diffusers sharded": write_diffusers_sharded,
    "diffusers sharded bin": write_diffusers_sharded_bin,
    "zeroscope": write_zeroscope,
    "borrows the autoencoder": write_borrower,
    "zeroscope dark": write_dark,
}
"""Every layout by name: a function that writes a model into a folder of a models folder."""


# --- files that aren't weights --------------------------------------------------------------------------------------


class Payload:
    """Pickles to a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


def zip_of_pickle(path: Path, pickled: bytes, **records: bytes) -> None:
    """A torch file with the given data.pkl."""
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        for key, data in records.items():
            archive.writestr(f"archive/data/{key.removeprefix('_')}", data)


def pickled(value: Any, protocol: int = 2) -> bytes:
    return pickle.dumps(value, protocol)


def safetensors_bytes(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data
