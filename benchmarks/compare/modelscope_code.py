"""ModelScope's own code as a contender: the files of its package on text to video, without the rest of the package.

They are its network, its autoencoder and its DDIM; the text tower is open_clip's, as there. In 16 bits the weights are
16 bits wide, which is kinder to it than its own pipeline, which keeps them in fp32 under autocast.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from benchmarks.compare.contender import Clip, Stages, Weights, Work, synchronize
from benchmarks.compare.weights import ORIGINAL
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import AutoencoderConfig, ModelConfig, UNetConfig
from t2v_core.models.modelscope.tokenizer import tokenize

_FOLDER = Path("models/multi_modal/video_synthesis")
_OPEN_CLIP = "open_clip_alone"


@functools.cache
def load_file(name: str) -> ModuleType:
    """One of the package's files: "unet_sd", "autoencoder" or "diffusion".

    Raises:
        ImportError: the package isn't installed.
    """
    path = Path(_package("modelscope")) / _FOLDER / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"modelscope_{name}_alone", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def open_clip_module(name: str) -> ModuleType:
    """open_clip's "transformer" or "tokenizer", without the package's vision half, which imports torchvision.

    Raises:
        ImportError: the package isn't installed.
    """
    empty = {name: ModuleType(name) for name in (_OPEN_CLIP, "torchvision", "torchvision.ops", "torchvision.ops.misc")}
    empty[_OPEN_CLIP].__path__ = [_package("open_clip")]
    vars(empty["torchvision.ops.misc"])["FrozenBatchNorm2d"] = type("FrozenBatchNorm2d", (), {})
    with _in_place_of_modules(empty):
        return importlib.import_module(f"{_OPEN_CLIP}.{name}")


def build_unet(unet: UNetConfig) -> Any:
    """Its 3D UNet of this size, whose norms have 32 groups and whose decoder takes text of width 1024 only."""
    return load_file("unet_sd").UNetSD(
        in_dim=unet.in_dim,
        dim=unet.dim,
        context_dim=unet.context_dim,
        out_dim=unet.out_dim,
        dim_mult=list(unet.dim_mult),
        num_heads=unet.num_heads,
        head_dim=unet.head_dim,
        num_res_blocks=unet.res_blocks,
        attn_scales=list(unet.attn_scales),
    )


def build_autoencoder(vae: AutoencoderConfig, file: Path | None = None) -> Any:
    """Its autoencoder of this size, whose norms have 32 groups, with a file's weights where one is given."""
    sizes = {
        "double_z": True,
        "z_channels": vae.z_dim,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": vae.dim,
        "ch_mult": list(vae.dim_mult),
        "num_res_blocks": vae.res_blocks,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    return load_file("autoencoder").AutoencoderKL(sizes, vae.z_dim, *([str(file)] if file else []))


class ModelScope:
    """`UNetSD`, `AutoencoderKL` and `GaussianDiffusion` with the given weights, or with those of its files."""

    name = "ModelScope"

    def __init__(self, folder: Path, config: ModelConfig, *, device: str, dtype: torch.dtype) -> None:
        load_file("unet_sd")  # so that a missing package is told at once
        self._folder = folder / ORIGINAL
        self._config = config
        self._device, self._dtype = device, dtype
        self._parts: dict[Part, Any] = {}

    def said(self) -> list[str]:
        """Nothing; see `Contender.said`."""
        return []

    def take(self, weights: Weights) -> None:
        """Build the networks around tensors that another contender uses as well; the names are theirs."""
        for part, state in weights.items():
            with torch.device("meta"):
                network = self._build(part)
            network.load_state_dict({**state, **_unused(part, network, state)}, strict=True, assign=True)
            self._keep(part, network)

    def load(self) -> None:
        """Load all parts as its pipeline does: networks of random values first, then the files over them."""
        files = self._config.files
        unet = self._build(Part.UNET)
        unet.load_state_dict(torch.load(self._folder / files.unet, map_location="cpu"), strict=True)
        autoencoder = self._build(Part.AUTOENCODER, self._folder / files.autoencoder)
        text = self._build(Part.TEXT)
        text.load_state_dict(torch.load(self._folder / files.text, map_location="cpu"), strict=False)
        for part, network in ((Part.UNET, unet), (Part.AUTOENCODER, autoencoder), (Part.TEXT, text)):
            self._keep(part, network.to(self._device, self._dtype))

    def stepper(self, latents: Tensor, timesteps: Tensor, text: Tensor) -> Work:
        """One pass of the UNet, with guidance one for each text as there; see `Contender.stepper`."""
        unet = self._parts[Part.UNET]
        latents, text = (value.to(self._device, self._dtype) for value in (latents, text))
        timesteps, texts = timesteps.to(self._device), text.split(len(latents))

        @torch.no_grad()
        def step() -> Tensor:
            with self._sinusoids_in_its_format():
                return torch.cat([unet(latents, timesteps, each) for each in texts])

        return step

    def decoder(self, latents: Tensor) -> Work:
        """Frames of latents, all at once as there; see `Contender.decoder`."""
        autoencoder = self._parts[Part.AUTOENCODER]
        given = (latents / self._config.vae.scale_factor).to(self._device, self._dtype)

        @torch.no_grad()
        def decode() -> Tensor:
            return autoencoder.decode(given).float().div(2).add(0.5).clamp(0, 1)

        return decode

    @torch.no_grad()
    def generate(self, clip: Clip) -> Stages:
        """A whole clip by its DDIM, whatever sampler the others use; see `Contender.generate`."""
        began = time.perf_counter()
        text, empty = (self._encode(prompt) for prompt in (clip.prompt, clip.negative_prompt))
        code, noise = load_file("diffusion"), self._config.noise
        betas = code.beta_schedule(
            "linear_sd", noise.num_timesteps, init_beta=noise.beta_start, last_beta=noise.beta_end
        )
        diffusion = code.GaussianDiffusion(betas, mean_type="eps", var_type="fixed_small", loss_type="mse")
        unet = self._parts[Part.UNET]
        with self._sinusoids_in_its_format():
            latents = diffusion.ddim_sample_loop(
                noise=clip.noise().to(self._device),
                model=lambda latents, timesteps, y: unet(latents.to(self._dtype), timesteps, y),
                model_kwargs=[{"y": text}, {"y": empty}],
                guide_scale=clip.cfg_scale,
                ddim_timesteps=clip.steps,
                eta=0.0,
            )
        synchronize(self._device)
        sampled = time.perf_counter()
        pictures = self.decoder(rearrange(latents, "1 c f h w -> f c h w"))()
        frames = rearrange(pictures, "f c h w -> f h w c").cpu().numpy()
        ended = time.perf_counter()
        return Stages(seconds=ended - began, sampling=sampled - began, decoding=ended - sampled, frames=frames)

    def _keep(self, part: Part, network: Any) -> None:
        self._parts[part] = network.eval().requires_grad_(False)

    def _encode(self, prompt: str) -> Tensor:
        """The output of the last layer but one, normed: what its `FrozenOpenCLIPEmbedder` computes."""
        tower = self._parts[Part.TEXT]
        x = tower.token_embedding(torch.tensor(tokenize(prompt)[:1], device=self._device)) + tower.positional_embedding
        length = x.shape[1]
        mask = torch.full((length, length), float("-inf"), dtype=x.dtype, device=x.device).triu_(1)
        for layer in tower.transformer.resblocks[:-1]:
            x = layer(x, attn_mask=mask)
        return tower.ln_final(x)

    def _build(self, part: Part, file: Path | None = None) -> Any:
        config = self._config
        if part is Part.TEXT:
            text = config.text
            sizes = (text.context_length, text.vocab_size, text.width, text.heads, text.layers)
            return open_clip_module("transformer").TextTransformer(*sizes, output_dim=text.width)
        return build_unet(config.unet) if part is Part.UNET else build_autoencoder(config.vae, file)

    @contextmanager
    def _sinusoids_in_its_format(self) -> Iterator[None]:
        """Its timestep embedding is always fp32, and fails before weights of 16 bits outside autocast."""
        module = load_file("unet_sd")
        original = module.sinusoidal_embedding
        vars(module)["sinusoidal_embedding"] = lambda *given: original(*given).to(self._dtype)
        try:
            yield
        finally:
            vars(module)["sinusoidal_embedding"] = original


def _unused(part: Part, network: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Something for the tensors that open_clip's class has and nobody uses here: its last layer and a projection."""
    if part is not Part.TEXT:
        return {}
    missing = {name: value for name, value in network.state_dict().items() if name not in state}
    return {name: torch.zeros(value.shape) for name, value in missing.items()}


def _package(name: str) -> str:
    package = importlib.util.find_spec(name)
    if package is None or not package.submodule_search_locations:
        raise ImportError(f"The package {name} isn't installed.")
    return package.submodule_search_locations[0]


@contextmanager
def _in_place_of_modules(empty: dict[str, ModuleType]) -> Iterator[None]:
    before = dict(sys.modules)
    sys.modules.update(empty)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name in empty or name.startswith(f"{_OPEN_CLIP}.")]:
            del sys.modules[name]
        sys.modules.update({name: before[name] for name in empty if name in before})
