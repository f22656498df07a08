"""Random weights on the disk as each contender's own files: the original four, and a Diffusers folder, in fp16.

A tensor's values depend on its name and shape alone, so every machine writes the same model. It shows nothing, but it
takes exactly as long as a trained one.
"""

from __future__ import annotations

import importlib
import json
import logging
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from t2v_core.models.modelscope.checkpoint import Part, spellings
from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.models.modelscope.text_encoder import TextEncoder
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.models.modelscope.vae import Autoencoder

log = logging.getLogger(__name__)

State = dict[str, Tensor]
DTYPE = torch.float16

ORIGINAL, DIFFUSERS = "original", "diffusers"
DIFFUSERS_PARTS = {
    Part.UNET: ("unet", "diffusion_pytorch_model.fp16.safetensors", "Diffusers"),
    Part.AUTOENCODER: ("vae", "diffusion_pytorch_model.fp16.safetensors", "Diffusers"),
    Part.TEXT: ("text_encoder", "model.fp16.safetensors", "transformers"),
}
_WRITTEN = {ORIGINAL: "written.json", DIFFUSERS: "written-diffusers.json"}
"""The marks of layouts that are whole."""


def write(folder: Path, config: ModelConfig, layouts: Sequence[str] = (ORIGINAL, DIFFUSERS)) -> None:
    """Write the layouts that no call before has written to their end; Diffusers' if its packages are installed."""
    sizes = json.dumps(config.to_dict(), sort_keys=True)
    marks = {layout: folder / _WRITTEN[layout] for layout in layouts}
    missing = [layout for layout, mark in marks.items()
               if not mark.exists() or mark.read_text(encoding="utf-8") != sizes]  # fmt: skip
    if DIFFUSERS in missing and not _is_diffusers_there():
        missing.remove(DIFFUSERS)
    if not missing:
        return
    log.info("writing random weights into %s: a minute or two at full size, and kept for the next time", folder)
    for part in Part:
        state = random_state(part, config)
        for layout in missing:
            _WRITERS[layout](folder / layout, part, state, config)
    for layout in missing:
        marks[layout].write_text(sizes, encoding="utf-8")


def random_state(part: Part, config: ModelConfig) -> State:
    """Every tensor of a part under our names, none of them zero."""
    return {name: random_tensor(name, tuple(value.shape)) for name, value in build(part, config).state_dict().items()}


def build(part: Part, config: ModelConfig) -> nn.Module:
    """Our network of a part, without memory for its weights."""
    with torch.device("meta"):
        if part is Part.TEXT:
            return TextEncoder(config.text)
        return UNet3D(config.unet) if part is Part.UNET else Autoencoder(config.vae)


def random_tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    """Values that leave activations at about their size: matrices by their fan-in, norms' gains around 1."""
    values = random_values(name, shape)
    if name.endswith(("embedding.weight", "embedding")):
        return values.mul_(0.5).to(DTYPE)
    if len(shape) > 1:
        # A random network sees two texts as very different; a weak head keeps guidance from running away.
        return values.mul_((0.3 if name == "out.2.weight" else 1.0) / values[0].numel() ** 0.5).to(DTYPE)
    values.mul_(0.2)
    return (values.add_(1.0) if name.endswith("weight") else values).to(DTYPE)


def random_values(name: str, shape: tuple[int, ...]) -> Tensor:
    """Unit normal values, float32, that depend on the name and the shape."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))


def respelt(part: Part, state: State, config: ModelConfig, *, shapes: dict[str, torch.Size]) -> State:
    """The same values under another implementation's names, as views in its shapes wherever that is possible."""
    sources = next(row.sources for row in spellings(part, config) if row.name == DIFFUSERS_PARTS[part][2])
    prefix = "text_model." if any(name.startswith("text_model.") for name in shapes) else ""
    theirs: State = {}
    for name, value in state.items():
        targets = [prefix + target for target in sources(name)]
        for target, piece in zip(targets, value.chunk(len(targets)), strict=True):
            theirs[target] = piece.reshape(shapes[target])
    return theirs


def _with_unused(state: State, config: ModelConfig) -> State:
    """The text tower with its last layer, which the published file holds and open_clip's class wants."""
    last, first = f"transformer.resblocks.{config.text.layers - 1}.", "transformer.resblocks.0."
    unused = {last + name.removeprefix(first): value for name, value in state.items() if name.startswith(first)}
    return {**state, **unused, "text_projection": torch.zeros(config.text.width, config.text.width, dtype=DTYPE)}


def _write_original(folder: Path, part: Part, state: State, config: ModelConfig) -> None:
    """A part's file as ModelScope publishes it, beside the configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "configuration.json").write_text(json.dumps(config.to_dict(), indent=1), encoding="utf-8")
    names = {Part.UNET: config.files.unet, Part.AUTOENCODER: config.files.autoencoder, Part.TEXT: config.files.text}
    if part is Part.AUTOENCODER:
        torch.save({"state_dict": {f"first_stage_model.{name}": value for name, value in state.items()}},
                   folder / names[part])  # fmt: skip
    else:
        torch.save(_with_unused(state, config) if part is Part.TEXT else state, folder / names[part])


def _is_diffusers_there() -> bool:
    try:
        for name in ("safetensors.torch", "benchmarks.compare.diffusers_code"):
            importlib.import_module(name)
    except ImportError:
        return False
    return True


def _write_diffusers(folder: Path, part: Part, state: State, config: ModelConfig) -> None:
    """A part's safetensors file and config.json."""
    from safetensors.torch import save_file

    from benchmarks.compare import diffusers_code

    network = diffusers_code.build(part, config)
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    place, name, _ = DIFFUSERS_PARTS[part]
    (folder / place).mkdir(parents=True, exist_ok=True)
    tensors = {key: value.clone() for key, value in respelt(part, state, config, shapes=shapes).items()}
    save_file(tensors, folder / place / name, metadata={"format": "pt"})
    diffusers_code.write_config(network, folder / place)


_WRITERS = {ORIGINAL: _write_original, DIFFUSERS: _write_diffusers}
