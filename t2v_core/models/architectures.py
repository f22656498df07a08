"""Tells from tensor names whose weights a file holds, so that a wrong file is called by its right name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

UNET = "the text-to-video UNet's weights"
AUTOENCODER = "an autoencoder's weights"
TEXT = "a text tower's weights"
STABLE_DIFFUSION_2 = "a Stable Diffusion 2 checkpoint"


@dataclass(frozen=True, slots=True)
class _Signature:
    """A kind of file: each of `all_of` occurs in some name; `none_of` in no name."""

    kind: str
    all_of: tuple[str, ...]
    none_of: tuple[str, ...] = ()


# The first row that fits decides: what is special stands before what is general.
_SIGNATURES = (
    _Signature("a T2V-Turbo, MCM or other LoRA", (".lora_A.",)),
    _Signature("a LoRA", ("lora_up",)),
    _Signature("a LoRA", ("lora.up",)),
    _Signature("a LoRA", ("to_q_lora",)),
    _Signature("an AnimateDiff motion module", ("motion_modules.",)),
    _Signature("a ControlNet", ("control_model.",)),
    _Signature("a ControlNet", ("controlnet_cond_embedding.",)),
    _Signature("an SDXL checkpoint", ("conditioner.embedders.",)),
    _Signature("SDXL's UNet", ("add_embedding.linear_1",)),
    _Signature("SDXL's UNet", ("label_emb.0.0", "input_blocks.")),
    _Signature("a Stable Video Diffusion model", ("time_stack.",)),
    _Signature("a Stable Video Diffusion model", ("temporal_transformer_blocks.",)),
    _Signature("a VideoCrafter model", ("model.diffusion_model.", "init_attn")),
    _Signature("a Stable Diffusion 1 checkpoint", ("model.diffusion_model.", "cond_stage_model.transformer.")),
    _Signature(STABLE_DIFFUSION_2, ("model.diffusion_model.", "cond_stage_model.model.")),
    _Signature(UNET, ("temopral_conv.",)),
    _Signature(UNET, ("temp_convs.",)),
    _Signature("an image UNet (Stable Diffusion)", ("input_blocks.", "middle_block.")),
    _Signature("an image UNet (Stable Diffusion)", ("down_blocks.", "mid_block.", "time_embedding.")),
    _Signature("a diffusion transformer (FLUX or SD 3)", ("double_blocks.",)),
    _Signature("a diffusion transformer (FLUX or SD 3)", ("joint_blocks.",)),
    _Signature("a Wan model", ("blocks.0.self_attn.", "blocks.0.cross_attn.")),
    _Signature(AUTOENCODER, ("encoder.down.", "decoder.up.")),
    _Signature(AUTOENCODER, ("encoder.down_blocks.", "decoder.up_blocks.")),
    _Signature("a T5 text encoder", ("SelfAttention.relative_attention_bias",)),
    _Signature(TEXT, ("transformer.resblocks.", "token_embedding"), ("down_blocks.",)),
    _Signature(TEXT, ("self_attn.q_proj", "embeddings.token_embedding")),
    _Signature("CLIP's vision half", ("visual.",)),
    _Signature("CLIP's vision half", ("vision_model.",)),
    _Signature("a textual inversion embedding", ("string_to_param",)),
    _Signature("a textual inversion embedding", ("emb_params",)),
)


def recognise(names: Iterable[str]) -> str | None:
    """What holds tensors of these names, or None where no signature fits."""
    text = "\n".join(names)
    for signature in _SIGNATURES:
        if all(mark in text for mark in signature.all_of) and not any(mark in text for mark in signature.none_of):
            return signature.kind
    return None
