"""How each part's tensors are called in the files that people have: key maps as data, and the strict match.

Our own names are the original checkpoints'. A map says what Diffusers or transformers call each of our modules.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from t2v_core.models.modelscope.config import AutoencoderConfig, ModelConfig, TextConfig, UNetConfig


class Part(str, enum.Enum):
    """The three networks of a model, in the order in which a run needs them."""

    TEXT = "text tower"
    UNET = "UNet"
    AUTOENCODER = "autoencoder"


@dataclass(frozen=True, slots=True)
class Spelling:
    """One way to name a part's tensors.

    `sources` gives, for one of our names, the file's names whose rows follow each other in it (three for our joint
    query, key and value, one elsewhere). `prefixes` may stand before all of them.
    """

    name: str
    sources: Callable[[str], tuple[str, ...]]
    prefixes: tuple[str, ...]


def spellings(part: Part, config: ModelConfig) -> tuple[Spelling, ...]:
    """All known ways to name the tensors of a part of this size."""
    if part is Part.UNET:
        return (
            Spelling("original", _same, ("", "module.", "unet.", "model.diffusion_model.", "diffusion_model.")),
            Spelling("Diffusers", _renamed(unet_modules(config.unet)), ("", "module.", "unet.")),
        )
    if part is Part.AUTOENCODER:
        prefixes = ("first_stage_model.", "", "module.", "vae.", "autoencoder.")
        modules = autoencoder_modules(config.vae)
        older = {ours: _older_attention(theirs) for ours, theirs in modules.items()}
        return (
            Spelling("original", _same, prefixes),
            Spelling("Diffusers", _renamed(modules), ("", "module.", "vae.")),
            Spelling("older Diffusers", _renamed(older), ("", "module.", "vae.")),
        )
    towers = ("text_model.", "", "text_encoder.text_model.", "module.text_model.")
    return (
        Spelling("original", _same, ("", "module.", "model.", "cond_stage_model.model.")),
        Spelling("transformers", _split_attention(_renamed(text_modules(config.text))), towers),
    )


def may_be_unused(part: Part, name: str, config: ModelConfig) -> bool:
    """Whether a file of this part may hold this name though nothing of ours needs it."""
    if name.startswith(_UNUSED[part]) or name in _UNUSED_NAMES[part]:
        return True
    layer = name.removeprefix("module.").removeprefix("model.").removeprefix("transformer.resblocks.").partition(".")[0]
    return part is Part.TEXT and layer.isdecimal() and int(layer) == config.text.layers - 1


# The published VQGAN_autoencoder.pth is a whole Stable Diffusion 2 checkpoint, of which one part is the autoencoder.
# Training adds a discriminator, a moving average and its noise schedule.
_UNUSED: Mapping[Part, tuple[str, ...]] = {
    Part.UNET: ("model_ema.", "ema."),
    Part.AUTOENCODER: ("model.", "model_ema.", "cond_stage_model.", "loss.", "discriminator.", "alphas_cumprod",
                       "betas", "sqrt_", "log_one_minus_", "posterior_", "lvlb_weights"),
    Part.TEXT: ("visual.", "module.visual.", "model.visual.", "cond_stage_model.model.visual.", "first_stage_model.",
                "model.diffusion_model."),
}  # fmt: skip
_UNUSED_NAMES: Mapping[Part, frozenset[str]] = {
    Part.UNET: frozenset(
        ("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod")
    ),
    Part.AUTOENCODER: frozenset(("logvar", "scale_factor", "colorize")),
    Part.TEXT: frozenset(
        f"{prefix}{name}"
        for prefix in ("", "module.", "model.", "cond_stage_model.model.", "text_model.", "embeddings.")
        for name in ("text_projection", "text_projection.weight", "logit_scale", "logit_bias", "attn_mask",
                     "position_ids", "embeddings.position_ids")
    ),
}  # fmt: skip

_RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_TEXT_LAYER = {
    "ln_1": "layer_norm1",
    "attn.out_proj": "self_attn.out_proj",
    "attn": "self_attn",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_OLDER_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def unet_modules(config: UNetConfig) -> dict[str, str]:
    """Our UNet's modules by name, with Diffusers' names of `UNet3DConditionModel`."""
    names = {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "input_blocks.0.0": "conv_in",
        "input_blocks.0.1": "transformer_in",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
    }
    levels, per_level = len(config.dim_mult), config.res_blocks + 1
    for index in range(levels * per_level - 1):
        level, place = divmod(index, per_level)
        ours, theirs = f"input_blocks.{index + 1}", f"down_blocks.{level}"
        if place == config.res_blocks:
            names[f"{ours}.op"] = f"{theirs}.downsamplers.0.conv"
        else:
            names |= _layers(ours, theirs, place)
    names |= _layers("middle_block", "mid_block", 0)
    names |= _residual("middle_block.3", "mid_block", 1)
    for index in range(levels * per_level):
        level, place = divmod(index, per_level)
        ours, theirs = f"output_blocks.{index}", f"up_blocks.{level}"
        names |= _layers(ours, theirs, place)
        if place == config.res_blocks and level < levels - 1:
            attends = 1 / 2 ** (levels - 1 - level) in config.attn_scales
            names[f"{ours}.{3 if attends else 1}.conv"] = f"{theirs}.upsamplers.0.conv"
    return names


def autoencoder_modules(config: AutoencoderConfig) -> dict[str, str]:
    """Our autoencoder's modules by name, with Diffusers' names of `AutoencoderKL`."""
    names = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    levels = len(config.dim_mult)
    for half in ("encoder", "decoder"):
        names |= {
            f"{half}.conv_in": f"{half}.conv_in",
            f"{half}.norm_out": f"{half}.conv_norm_out",
            f"{half}.conv_out": f"{half}.conv_out",
            f"{half}.mid.block_1": f"{half}.mid_block.resnets.0",
            f"{half}.mid.block_2": f"{half}.mid_block.resnets.1",
        }
        names |= {f"{half}.mid.attn_1.{a}": f"{half}.mid_block.attentions.0.{b}" for a, b in _ATTENTION.items()}
    for level in range(levels):
        # Diffusers counts the decoder's stages in the order of use, the original from full size.
        down, up = f"encoder.down_blocks.{level}", f"decoder.up_blocks.{levels - 1 - level}"
        for block in range(config.res_blocks + 1):
            names[f"encoder.down.{level}.block.{block}"] = f"{down}.resnets.{block}"
            names[f"decoder.up.{level}.block.{block}"] = f"{up}.resnets.{block}"
        names[f"encoder.down.{level}.downsample.conv"] = f"{down}.downsamplers.0.conv"
        names[f"decoder.up.{level}.upsample.conv"] = f"{up}.upsamplers.0.conv"
    shortcuts = {f"{a}.nin_shortcut": f"{b}.conv_shortcut" for a, b in names.items() if ".block" in a}
    return names | shortcuts


def text_modules(config: TextConfig) -> dict[str, str]:
    """Our text tower's modules by name, with transformers' names of `CLIPTextModel`, without its prefix."""
    names = {
        "token_embedding": "embeddings.token_embedding",
        "positional_embedding": "embeddings.position_embedding.weight",
        "ln_final": "final_layer_norm",
    }
    for layer in range(config.layers - 1):
        names |= {f"transformer.resblocks.{layer}.{a}": f"encoder.layers.{layer}.{b}" for a, b in _TEXT_LAYER.items()}
    return names


def _residual(ours: str, theirs: str, place: int) -> dict[str, str]:
    names = {f"{ours}.{a}": f"{theirs}.resnets.{place}.{b}" for a, b in _RESIDUAL.items()}
    return names | {f"{ours}.temopral_conv": f"{theirs}.temp_convs.{place}"}


def _layers(ours: str, theirs: str, place: int) -> dict[str, str]:
    """Residual block, spatial transformer, temporal transformer."""
    transformers = {f"{ours}.1": f"{theirs}.attentions.{place}", f"{ours}.2": f"{theirs}.temp_attentions.{place}"}
    return _residual(f"{ours}.0", theirs, place) | transformers


def _same(name: str) -> tuple[str, ...]:
    return (name,)


def _renamed(modules: Mapping[str, str]) -> Callable[[str], tuple[str, ...]]:
    def sources(name: str) -> tuple[str, ...]:
        module, rest = name, ""
        while module not in modules:
            module, _, last = module.rpartition(".")
            rest = f".{last}{rest}"
            if not module:
                raise KeyError(name)
        return (modules[module] + rest,)

    return sources


def _split_attention(renamed: Callable[[str], tuple[str, ...]]) -> Callable[[str], tuple[str, ...]]:
    """Transformers keep query, key and value apart, where open_clip's rows follow each other in one matrix."""

    def sources(name: str) -> tuple[str, ...]:
        theirs = renamed(name)[0]
        head, joint, kind = theirs.partition("in_proj_")
        return tuple(f"{head}{which}_proj.{kind}" for which in "qkv") if joint else (theirs,)

    return sources


def _older_attention(theirs: str) -> str:
    head, marker, last = theirs.partition(".attentions.0.")
    return head + marker + _OLDER_ATTENTION.get(last, last)
