"""A Diffusers folder's config.json files as our sizes; what we don't implement is refused by its key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from t2v_core.errors import WeightsError
from t2v_core.models.modelscope.config import AutoencoderConfig, NoiseConfig, TextConfig, UNetConfig

Document = Mapping[str, Any]

# Keys that change the network, with the only value that is implemented; a file that leaves one out has that value.
_UNET_FIXED = {
    "_class_name": "UNet3DConditionModel",
    "act_fn": "silu",
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "num_attention_heads": None,
    "time_cond_proj_dim": None,
}
_AUTOENCODER_FIXED = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "in_channels": 3,
    "out_channels": 3,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}
_TEXT_FIXED = {"architectures": ["CLIPTextModel"], "hidden_act": "gelu", "layer_norm_eps": 1e-5}

_PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
_BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
_WITH_ATTENTION, _WITHOUT_ATTENTION = "CrossAttnDownBlock3D", "DownBlock3D"


def unet_config(document: Document) -> UNetConfig:
    """Sizes from unet/config.json.

    Raises:
        WeightsError: naming the key that isn't implemented or is of the wrong kind; so do the others.
    """
    _require(document, _UNET_FIXED)
    dims = _wholes(document, "block_out_channels", (320, 640, 1280, 1280))
    standard = (*[_WITH_ATTENTION] * (len(dims) - 1), _WITHOUT_ATTENTION)
    kinds = _texts(document, "down_block_types", standard)
    if len(kinds) != len(dims) or not {_WITH_ATTENTION, _WITHOUT_ATTENTION} >= set(kinds):
        raise _wrong("down_block_types", kinds, f"{len(dims)} of {_WITH_ATTENTION} and {_WITHOUT_ATTENTION}")
    mirrored = tuple(kind.replace("Down", "Up") for kind in reversed(kinds))
    if _texts(document, "up_block_types", mirrored) != mirrored:
        raise _wrong("up_block_types", document["up_block_types"], f"{list(mirrored)}, as down_block_types have it")
    return UNetConfig(
        in_dim=_whole(document, "in_channels", 4),
        dim=dims[0],
        context_dim=_whole(document, "cross_attention_dim", 1024),
        out_dim=_whole(document, "out_channels", 4),
        dim_mult=_multiples(dims, "block_out_channels"),
        head_dim=_whole(document, "attention_head_dim", 64),
        res_blocks=_whole(document, "layers_per_block", 2),
        attn_scales=tuple(1 / 2**level for level, kind in enumerate(kinds) if kind == _WITH_ATTENTION),
        norm_groups=_whole(document, "norm_num_groups", 32),
    )


def autoencoder_config(document: Document) -> AutoencoderConfig:
    """Sizes from vae/config.json."""
    _require(document, _AUTOENCODER_FIXED)
    dims = _wholes(document, "block_out_channels", (128, 256, 512, 512))
    for key, kind in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
        if set(_texts(document, key, (kind,))) != {kind}:
            raise _wrong(key, document[key], kind)
    return AutoencoderConfig(
        dim=dims[0],
        dim_mult=_multiples(dims, "block_out_channels"),
        res_blocks=_whole(document, "layers_per_block", 2),
        z_dim=_whole(document, "latent_channels", 4),
        norm_groups=_whole(document, "norm_num_groups", 32),
        scale_factor=_number(document, "scaling_factor", 0.18215),
    )


def text_config(document: Document) -> TextConfig:
    """Sizes from text_encoder/config.json; its layers are all used, while ours count one more that never is."""
    _require(document, _TEXT_FIXED)
    width = _whole(document, "hidden_size", 1024)
    if _whole(document, "intermediate_size", 4 * width) != 4 * width:
        raise _wrong("intermediate_size", document["intermediate_size"], f"{4 * width}, four times hidden_size")
    return TextConfig(
        width=width,
        layers=_whole(document, "num_hidden_layers", 23) + 1,
        heads=_whole(document, "num_attention_heads", 16),
        context_length=_whole(document, "max_position_embeddings", 77),
        vocab_size=_whole(document, "vocab_size", 49408),
    )


def noise_config(document: Document) -> NoiseConfig:
    """The training's noise from scheduler/scheduler_config.json, whichever scheduler class it names."""
    prediction = document.get("prediction_type", "epsilon")
    if prediction not in _PREDICTIONS:
        raise _wrong("prediction_type", prediction, " or ".join(_PREDICTIONS))
    beta_schedule = document.get("beta_schedule", "scaled_linear")
    if beta_schedule not in _BETA_SCHEDULES:
        raise _wrong("beta_schedule", beta_schedule, " or ".join(_BETA_SCHEDULES))
    betas = document.get("trained_betas") or ()
    if not isinstance(betas, (list, tuple)):
        raise _wrong("trained_betas", betas, "a list of numbers")
    return NoiseConfig(
        prediction=_PREDICTIONS[prediction],
        num_timesteps=_whole(document, "num_train_timesteps", 1000),
        beta_schedule=beta_schedule,
        beta_start=_number(document, "beta_start", 0.00085),
        beta_end=_number(document, "beta_end", 0.0120),
        trained_betas=tuple(_number({"trained_betas": beta}, "trained_betas", 0.0) for beta in betas),
        rescale_betas_zero_snr=document.get("rescale_betas_zero_snr") is True,
    )


def _require(document: Document, fixed: Document) -> None:
    for key, value in fixed.items():
        if document.get(key, value) != value:
            raise _wrong(key, document[key], json.dumps(value))


def _whole(document: Document, key: str, default: int) -> int:
    value = document.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise _wrong(key, value, "a whole number from 1 on")
    return value


def _number(document: Document, key: str, default: float) -> float:
    value = document.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**31:
        raise _wrong(key, value, "a number from 0 on")
    return float(value)


def _wholes(document: Document, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    values = document.get(key, default)
    if not isinstance(values, (list, tuple)) or not values:
        raise _wrong(key, values, "a list of whole numbers")
    return tuple(_whole({key: value}, key, 0) for value in values)


def _texts(document: Document, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
    values = document.get(key, default)
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) for value in values):
        raise _wrong(key, values, "a list of names")
    return tuple(values)


def _multiples(dims: tuple[int, ...], key: str) -> tuple[int, ...]:
    if any(dim % dims[0] for dim in dims):
        raise _wrong(key, dims, "multiples of the first")
    return tuple(dim // dims[0] for dim in dims)


def _wrong(key: str, value: Any, wanted: str) -> WeightsError:
    return WeightsError(
        f"{key} is {json.dumps(value, default=str)[:200]}, but only {wanted} is implemented.",
        remedy="Put back the file that came with the model; if it says so there, this model can't be used here.",
    )
