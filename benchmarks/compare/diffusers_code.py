"""Diffusers' pipeline as a contender, set up as its documentation does best.

That is: half-precision files with `variant`, PyTorch's scaled-dot-product attention (its default), and the autoencoder
in slices. On a CPU it's no more than that, for torch.compile made it slower there.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.compare.contender import Clip, Stages, Weights, Work, synchronize
from benchmarks.compare.weights import DIFFUSERS, respelt
from benchmarks.torchvision import hide_if_broken
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.models.modelscope.tokenizer import tokenize

hide_if_broken()
# Their types say less than their documentation allows.
diffusers: Any = importlib.import_module("diffusers")
transformers: Any = importlib.import_module("transformers")

SCHEDULERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "DDIM": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {"steps_offset": 1, "timestep_spacing": "leading"}),
}


def build(part: Part, config: ModelConfig) -> nn.Module:
    """Their network of this size, without memory for its weights."""
    with torch.device("meta"):
        return {Part.UNET: build_unet, Part.AUTOENCODER: build_autoencoder, Part.TEXT: _text}[part](config).eval()


def build_unet(config: ModelConfig) -> Any:
    """Their 3D UNet. Its first transformer has 8 heads, and its first level the width of its stem."""
    unet = config.unet
    attends = [1 / 2**level in unet.attn_scales for level in range(len(unet.dim_mult))]
    return diffusers.UNet3DConditionModel(
        in_channels=unet.in_dim,
        out_channels=unet.out_dim,
        down_block_types=tuple("CrossAttnDownBlock3D" if yes else "DownBlock3D" for yes in attends),
        up_block_types=tuple("CrossAttnUpBlock3D" if yes else "UpBlock3D" for yes in reversed(attends)),
        block_out_channels=tuple(unet.dim * mult for mult in unet.dim_mult),
        layers_per_block=unet.res_blocks,
        norm_num_groups=unet.norm_groups,
        cross_attention_dim=unet.context_dim,
        attention_head_dim=unet.head_dim,
        sample_size=32,
    )


def build_autoencoder(config: ModelConfig) -> Any:
    """Their autoencoder."""
    vae = config.vae
    levels = len(vae.dim_mult)
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(vae.dim * mult for mult in vae.dim_mult),
        layers_per_block=vae.res_blocks,
        latent_channels=vae.z_dim,
        norm_num_groups=vae.norm_groups,
        scaling_factor=vae.scale_factor,
        sample_size=256,
    )


def _text(config: ModelConfig) -> Any:
    text = config.text
    return transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=text.vocab_size,
            hidden_size=text.width,
            intermediate_size=4 * text.width,
            num_hidden_layers=text.layers - 1,
            num_attention_heads=text.heads,
            max_position_embeddings=text.context_length,
            hidden_act="gelu",
        )
    )


def write_config(network: Any, folder: Path) -> None:
    """The config.json that stands beside a part's weights."""
    save = getattr(network.config, "save_pretrained", None) or network.save_config
    save(folder)


class Diffusers:
    """`TextToVideoSDPipeline` with the given weights, or with those of its folder."""

    name = "Diffusers"

    def __init__(self, folder: Path, config: ModelConfig, *, device: str, dtype: torch.dtype) -> None:
        self._folder = folder / DIFFUSERS
        self._config = config
        self._device, self._dtype = device, dtype
        self._parts: dict[Part, Any] = {}

    def said(self) -> list[str]:
        """Nothing; see `Contender.said`."""
        return []

    def take(self, weights: Weights) -> None:
        """Build the networks around tensors that another contender uses as well."""
        for part, state in weights.items():
            network = build(part, self._config)
            shapes = {name: value.shape for name, value in network.state_dict().items()}
            theirs = respelt(part, state, self._config, shapes=shapes)
            network.load_state_dict(theirs, strict=True, assign=True)
            if part is Part.TEXT:
                _fill_buffers(network, self._config, device=self._device)
            self._parts[part] = network.requires_grad_(False)

    def load(self) -> None:
        """Load all parts as `from_pretrained` does."""
        given = {"variant": "fp16", "torch_dtype": self._dtype}
        kinds = {
            Part.UNET: (diffusers.UNet3DConditionModel, "unet"),
            Part.AUTOENCODER: (diffusers.AutoencoderKL, "vae"),
            Part.TEXT: (transformers.CLIPTextModel, "text_encoder"),
        }
        for part, (kind, place) in kinds.items():
            self._parts[part] = kind.from_pretrained(self._folder / place, **given).to(self._device).eval()

    def stepper(self, latents: Tensor, timesteps: Tensor, text: Tensor) -> Work:
        """One pass of the UNet; see `Contender.stepper`."""
        unet = self._parts[Part.UNET]
        latents, text = (value.to(self._device, self._dtype) for value in (latents, text))
        timesteps, times = timesteps.to(self._device), len(text) // len(latents)

        @torch.no_grad()
        def step() -> Tensor:
            return unet(torch.cat([latents] * times) if times > 1 else latents, timesteps, text).sample

        return step

    def decoder(self, latents: Tensor) -> Work:
        """Frames of latents; see `Contender.decoder`."""
        autoencoder = self._parts[Part.AUTOENCODER]
        autoencoder.enable_slicing()
        given = (latents / self._config.vae.scale_factor).to(self._device, self._dtype)

        @torch.no_grad()
        def decode() -> Tensor:
            return autoencoder.decode(given).sample.float().div(2).add(0.5).clamp(0, 1)

        return decode

    def generate(self, clip: Clip) -> Stages:
        """A whole clip; see `Contender.generate`."""
        kind, options = SCHEDULERS[clip.sampler]
        noise = self._config.noise
        scheduler = getattr(diffusers, kind)(
            beta_schedule=noise.beta_schedule, beta_start=noise.beta_start, beta_end=noise.beta_end, **options
        )
        pipe = diffusers.TextToVideoSDPipeline(
            vae=self._parts[Part.AUTOENCODER],
            text_encoder=self._parts[Part.TEXT],
            tokenizer=_Tokenizer(),
            unet=self._parts[Part.UNET],
            scheduler=scheduler,
        )
        pipe.vae.enable_slicing()
        pipe.set_progress_bar_config(disable=True)
        sampled = 0.0

        def stepped(index: int, *_: Any) -> None:
            nonlocal sampled
            if index + 1 == clip.steps:  # to wait after each would keep a GPU from having the next one's work already
                synchronize(self._device)
                sampled = time.perf_counter()

        began = time.perf_counter()
        frames = pipe(
            clip.prompt,
            negative_prompt=clip.negative_prompt,
            num_frames=clip.size.frames,
            height=clip.size.height,
            width=clip.size.width,
            num_inference_steps=clip.steps,
            guidance_scale=clip.cfg_scale,
            latents=clip.noise().to(self._device, self._dtype),
            output_type="pt",
            callback=stepped,
        ).frames[0]
        ended = time.perf_counter()
        # The first step's beginning isn't told: what comes before it, the text, is a few thousandths of a run.
        return Stages(
            seconds=ended - began,
            sampling=sampled - began,
            decoding=ended - sampled,
            frames=frames.permute(0, 2, 3, 1).float().cpu().numpy(),
        )


def _fill_buffers(network: Any, config: ModelConfig, *, device: str) -> None:
    """Give a network that was built without memory the buffers that no file holds."""
    for module in network.modules():
        for name, buffer in list(module._buffers.items()):
            if buffer is not None and buffer.is_meta:
                module._buffers[name] = torch.arange(config.text.context_length, device=device)[None]


class _Tokenizer:
    """Stands for transformers' tokenizer, whose files are a download: the ids are the same."""

    model_max_length = 77

    def __init__(self) -> None:
        self.added_tokens_encoder: dict[str, int] = {}

    def tokenize(self, prompt: str) -> list[str]:
        """Asked only to find textual inversions, of which there are none."""
        return []

    def __call__(self, prompt: Any, **_: Any) -> Any:
        prompts = [prompt] if isinstance(prompt, str) else prompt
        return SimpleNamespace(input_ids=torch.tensor([tokenize(each)[0] for each in prompts]), attention_mask=None)
