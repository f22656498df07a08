"""Every size of the network, read from configuration.json; what a file leaves out is the 1.7B model's.

The published file holds the UNet's sizes and the file names. The autoencoder's and the text tower's sizes, the noise
schedule and a model's native clip size are optional keys of ours beside them, so that small models need no new format.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from t2v_core.errors import WeightsError
from t2v_core.request import ModelDefaults

_JSON_KEY, _LEAST = "json_key", "least"

# What a linear map makes of the four channels and of nothing, as red, green and blue in -1..1. The factors of Stable
# Diffusion 1's latents were fitted to its decoder's pictures: discuss.huggingface.co/t/23204. They leave out the last
# row, which was measured for this project as the mean that they miss over random colours.
_SD1_PREVIEW = (
    (0.298, 0.207, 0.208),
    (0.187, 0.286, 0.173),
    (-0.158, 0.189, 0.264),
    (-0.184, -0.271, -0.473),
    (0.08, -0.04, -0.14),
)


def _from_key(key: str, default: Any, *, least: int = 0) -> Any:
    """A dataclass field that configuration.json spells `key`, with no number in it below `least`."""
    return field(default=default, metadata={_JSON_KEY: key, _LEAST: least})


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """Sizes of the 3D UNet; level i has `dim * dim_mult[i]` channels at 1 / 2**i of the latent size."""

    in_dim: int = _from_key("unet_in_dim", 4)
    dim: int = _from_key("unet_dim", 320)
    context_dim: int = _from_key("unet_context_dim", 1024)
    out_dim: int = _from_key("unet_out_dim", 4)
    dim_mult: tuple[int, ...] = _from_key("unet_dim_mult", (1, 2, 4, 4))
    num_heads: int = _from_key("unet_num_heads", 8)
    head_dim: int = _from_key("unet_head_dim", 64)
    res_blocks: int = _from_key("unet_res_blocks", 2)
    attn_scales: tuple[float, ...] = _from_key("unet_attn_scales", (1.0, 0.5, 0.25))
    dropout: float = _from_key("unet_dropout", 0.1)
    norm_groups: int = _from_key("unet_norm_groups", 32)


@dataclass(frozen=True, slots=True)
class AutoencoderConfig:
    """Sizes of the image autoencoder; it halves a picture `len(dim_mult) - 1` times.

    `preview_map` is what is nearest to it among linear maps of one latent cell to one pixel in -1..1: a row of red,
    green and blue for each of the `z_dim` channels of scaled latents, and one to add.
    """

    dim: int = _from_key("vae_dim", 128)
    dim_mult: tuple[int, ...] = _from_key("vae_dim_mult", (1, 2, 4, 4))
    res_blocks: int = _from_key("vae_res_blocks", 2)
    z_dim: int = _from_key("vae_z_dim", 4)
    norm_groups: int = _from_key("vae_norm_groups", 32)
    scale_factor: float = _from_key("vae_scale_factor", 0.18215)
    preview_map: tuple[tuple[float, ...], ...] = _from_key("vae_preview_map", _SD1_PREVIEW, least=-1000)

    @property
    def downsampling(self) -> int:
        """Pixels along one side of a latent cell."""
        return 2 ** (len(self.dim_mult) - 1)


@dataclass(frozen=True, slots=True)
class TextConfig:
    """Sizes of the text tower. `layers` counts the published tower's layers; the last one is never used."""

    width: int = _from_key("text_width", 1024)
    layers: int = _from_key("text_layers", 24)
    heads: int = _from_key("text_heads", 16)
    context_length: int = _from_key("text_context_length", 77)
    vocab_size: int = _from_key("text_vocab_size", 49408)


@dataclass(frozen=True, slots=True)
class NoiseConfig:
    """How training noised its clips, and what the network predicts: "eps", "v" or "x0"."""

    prediction: str = _from_key("mean_type", "eps")
    num_timesteps: int = _from_key("num_timesteps", 1000)
    beta_schedule: str = _from_key("beta_schedule", "scaled_linear")
    beta_start: float = _from_key("beta_start", 0.00085)
    beta_end: float = _from_key("beta_end", 0.0120)
    trained_betas: tuple[float, ...] = _from_key("trained_betas", ())
    rescale_betas_zero_snr: bool = _from_key("rescale_betas_zero_snr", False)


@dataclass(frozen=True, slots=True)
class FilesConfig:
    """File names, relative to configuration.json."""

    unet: str = _from_key("ckpt_unet", "text2video_pytorch_model.pth")
    autoencoder: str = _from_key("ckpt_autoencoder", "VQGAN_autoencoder.pth")
    text: str = _from_key("ckpt_clip", "open_clip_pytorch_model.bin")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Everything configuration.json says; `ModelConfig()` is the 1.7B model."""

    unet: UNetConfig = field(default_factory=UNetConfig)
    vae: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    text: TextConfig = field(default_factory=TextConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    files: FilesConfig = field(default_factory=FilesConfig)
    defaults: ModelDefaults = field(default_factory=ModelDefaults)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ModelConfig:
        """Read a parsed configuration.json.

        Raises:
            WeightsError: for a value of the wrong kind, or a network that isn't implemented here; names the key.
        """
        model = _section(document, "model")
        sizes, args = _section(model, "model_cfg"), _section(model, "model_args")
        if str(sizes.get("temporal_attention", True)).lower() != "true":
            raise _wrong("temporal_attention", sizes["temporal_attention"], "True, as in all published models")
        config = cls(
            unet=_read(UNetConfig, sizes),
            vae=_read(AutoencoderConfig, sizes),
            text=_read(TextConfig, sizes),
            noise=_read(NoiseConfig, sizes),
            files=_read(FilesConfig, args),
            defaults=_read(ModelDefaults, _section(args, "defaults")),
        )
        config.check()
        return config

    def to_dict(self) -> dict[str, Any]:
        """The configuration.json of this model; `from_dict` reads it back equal."""
        parts = (self.unet, self.vae, self.text, self.noise)
        sizes = {key: value for part in parts for key, value in _write(part).items()}
        args = {**_write(self.files), "defaults": _write(self.defaults)}
        return {
            "framework": "pytorch",
            "task": "text-to-video-synthesis",
            "model": {"type": "latent-text-to-video-synthesis", "model_args": args, "model_cfg": sizes},
            "pipeline": {"type": "latent-text-to-video-synthesis"},
        }

    def check(self) -> None:
        """Raise `WeightsError` where sizes don't fit each other."""
        unet, vae = self.unet, self.vae
        if unet.context_dim != self.text.width:
            raise _wrong("unet_context_dim", unet.context_dim, f"text_width, {self.text.width}")
        if not unet.in_dim == unet.out_dim == vae.z_dim:
            raise _wrong("unet_in_dim", unet.in_dim, f"unet_out_dim, {unet.out_dim}, and vae_z_dim, {vae.z_dim}")
        for key, dim, mult, groups in (
            ("unet_dim", unet.dim, unet.dim_mult, unet.norm_groups),
            ("vae_dim", vae.dim, vae.dim_mult, vae.norm_groups),
        ):
            if any(dim * m % groups for m in (1, *mult)):
                raise _wrong(key, dim, f"a multiple of the {groups} norm groups at each level")
        if [len(row) for row in vae.preview_map] != [3] * (vae.z_dim + 1):
            raise _wrong("vae_preview_map", vae.preview_map, f"{vae.z_dim + 1} rows of 3 numbers: vae_z_dim and one")
        if any(unet.dim * mult % unet.head_dim for mult in unet.dim_mult):
            raise _wrong("unet_dim", unet.dim, f"a multiple of unet_head_dim, {unet.head_dim}, at each level")
        if self.text.width % self.text.heads:
            raise _wrong("text_width", self.text.width, f"a multiple of text_heads, {self.text.heads}")
        if self.noise.prediction not in ("eps", "v", "x0"):
            raise _wrong("mean_type", self.noise.prediction, '"eps", "v" or "x0"')


def _section(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = document.get(name, {}) if isinstance(document, Mapping) else None
    if not isinstance(section, Mapping):
        raise _wrong(name, section, "a JSON object")
    return section


def _key(row: dataclasses.Field[Any]) -> str:
    return row.metadata.get(_JSON_KEY, row.name)


def _read(kind: Any, document: Mapping[str, Any]) -> Any:
    rows = [row for row in dataclasses.fields(kind) if _key(row) in document]
    return kind(
        **{
            row.name: _value(_key(row), document[_key(row)], row.default, least=row.metadata.get(_LEAST, 0))
            for row in rows
        }
    )


def _write(part: Any) -> dict[str, Any]:
    values = {_key(row): getattr(part, row.name) for row in dataclasses.fields(part)}
    return {key: _as_lists(value) for key, value in values.items()}


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value


def _value(key: str, value: Any, default: Any, *, least: int = 0) -> Any:
    """Check a value against the kind of its default; most numbers of these files are at least zero."""
    if isinstance(default, tuple):
        if not isinstance(value, list):
            raise _wrong(key, value, "a list of numbers")
        kind = default[0] if default else 0.0
        return tuple(_value(key, item, kind, least=least) for item in value)
    if isinstance(default, (bool, str)):
        if type(value) is not type(default):
            raise _wrong(key, value, "true or false" if isinstance(default, bool) else "text")
        return value
    whole = isinstance(default, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not least <= value < 2**31:
        raise _wrong(key, value, "a whole number" if whole else "a number")
    if whole and value == 0:
        raise _wrong(key, value, "1 or more")
    return value if whole else float(value)


def _wrong(key: str, value: Any, wanted: str) -> WeightsError:
    return WeightsError(
        f"configuration.json: {key} is {json.dumps(value, default=str)}, but must be {wanted}.",
        remedy="Put back the configuration.json that came with the model, or remove it to use the 1.7B model's.",
    )
