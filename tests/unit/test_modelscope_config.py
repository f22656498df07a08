"""configuration.json: what is published is the default, what is written is read back, and each wrong value is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from t2v_core.errors import WeightsError
from t2v_core.models.modelscope.config import (
    AutoencoderConfig,
    FilesConfig,
    ModelConfig,
    NoiseConfig,
    TextConfig,
    UNetConfig,
)
from t2v_core.request import ModelDefaults

# The values of the file that is published with the 1.7B model.
PUBLISHED: dict[str, Any] = {
    "framework": "pytorch",
    "task": "text-to-video-synthesis",
    "model": {
        "type": "latent-text-to-video-synthesis",
        "model_args": {
            "ckpt_clip": "open_clip_pytorch_model.bin",
            "ckpt_unet": "text2video_pytorch_model.pth",
            "ckpt_autoencoder": "VQGAN_autoencoder.pth",
            "max_frames": 16,
            "tiny_gpu": 1,
        },
        "model_cfg": {
            "unet_in_dim": 4,
            "unet_dim": 320,
            "unet_y_dim": 768,
            "unet_context_dim": 1024,
            "unet_out_dim": 4,
            "unet_dim_mult": [1, 2, 4, 4],
            "unet_num_heads": 8,
            "unet_head_dim": 64,
            "unet_res_blocks": 2,
            "unet_attn_scales": [1, 0.5, 0.25],
            "unet_dropout": 0.1,
            "temporal_attention": "True",
            "num_timesteps": 1000,
            "mean_type": "eps",
            "var_type": "fixed_small",
            "loss_type": "mse",
        },
    },
    "pipeline": {"type": "latent-text-to-video-synthesis"},
}

SMALL = ModelConfig(
    unet=UNetConfig(
        in_dim=8, dim=48, context_dim=64, out_dim=8, dim_mult=(1, 3), num_heads=2, head_dim=16, res_blocks=1,
        attn_scales=(1.0,), dropout=0.0, norm_groups=16,
    ),
    vae=AutoencoderConfig(dim=16, dim_mult=(1, 2, 2), res_blocks=1, z_dim=8, norm_groups=8, scale_factor=0.5,
                          preview_map=((0.5, -0.25, -1.0),) * 9),
    text=TextConfig(width=64, layers=3, heads=4, context_length=77, vocab_size=49408),
    noise=NoiseConfig(
        prediction="v", num_timesteps=500, beta_schedule="linear", beta_start=0.0001, beta_end=0.02,
        trained_betas=(0.1, 0.2), rescale_betas_zero_snr=True,
    ),
    files=FilesConfig(unet="unet.safetensors", autoencoder="../vae.safetensors", text="text.safetensors"),
    defaults=ModelDefaults(steps=20, sampler="DDIM", schedule="Trailing", cfg_scale=4.0, width=64, height=64, frames=8),
)  # fmt: skip


def with_value(key: str, value: object) -> dict[str, Any]:
    """The published file with one value of `model_cfg` or `model_args` changed or added."""
    document = json.loads(json.dumps(PUBLISHED))
    section = "model_args" if key in PUBLISHED["model"]["model_args"] else "model_cfg"
    document["model"][section][key] = value
    return document


def test_published_file_is_the_default() -> None:
    assert ModelConfig.from_dict(PUBLISHED) == ModelConfig()


@pytest.mark.parametrize("document", [{}, {"model": {}}, {"model": {"model_cfg": {}, "model_args": {}}}])
def test_what_is_left_out_is_the_published_models(document: dict[str, Any]) -> None:
    assert ModelConfig.from_dict(document) == ModelConfig()


@pytest.mark.parametrize("config", [ModelConfig(), SMALL], ids=["published", "small"])
def test_what_is_written_is_read_back_through_json(config: ModelConfig) -> None:
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_what_is_written_holds_the_published_keys_and_values() -> None:
    written = ModelConfig().to_dict()
    for section in ("model_cfg", "model_args"):
        ours, theirs = written["model"][section], PUBLISHED["model"][section]
        assert {key: ours[key] for key in theirs.keys() & ours.keys()} == {
            key: value for key, value in theirs.items() if key in ours
        }
        unknown = {"unet_y_dim", "temporal_attention", "var_type", "loss_type", "max_frames", "tiny_gpu"}
        assert theirs.keys() - ours.keys() <= unknown


@pytest.mark.parametrize("value", ["True", "true", True])
def test_temporal_attention_is_text_or_a_truth_value(value: object) -> None:
    assert ModelConfig.from_dict(with_value("temporal_attention", value)) == ModelConfig()


WRONG = [
    ("unet_dim", "320"),
    ("unet_dim", 320.5),
    ("unet_dim", 0),
    ("unet_dim", -320),
    ("unet_dim", True),
    ("unet_dim", None),
    ("unet_dim", 2**40),
    ("unet_dim", 330),
    ("unet_dim", 352),
    ("unet_dim_mult", 4),
    ("unet_dim_mult", "1244"),
    ("unet_dim_mult", [1, 2, "4", 4]),
    ("unet_dim_mult", [1, 0, 4]),
    ("unet_dim_mult", [1, 1.5]),
    ("unet_attn_scales", [1, None]),
    ("unet_attn_scales", {}),
    ("unet_dropout", "0.1"),
    ("unet_dropout", float("nan")),
    ("unet_context_dim", 768),
    ("unet_in_dim", 9),
    ("unet_head_dim", 48),
    ("unet_norm_groups", 7),
    ("vae_dim", 100),
    ("vae_norm_groups", 256),
    ("vae_scale_factor", []),
    ("vae_preview_map", [0.1, 0.2, 0.3]),
    ("vae_preview_map", [[0.1, 0.2, 0.3]] * 4),
    ("vae_preview_map", [[0.1, 0.2]] * 5),
    ("vae_preview_map", [[0.1, 0.2, "0.3"]] * 5),
    ("vae_preview_map", [[0.1, 0.2, float("inf")]] * 5),
    ("text_heads", 0),
    ("text_width", 1024.0),
    ("mean_type", "score"),
    ("mean_type", 1),
    ("beta_start", "small"),
    ("rescale_betas_zero_snr", "yes"),
    ("trained_betas", [0.1, "x"]),
    ("temporal_attention", "False"),
    ("temporal_attention", False),
    ("ckpt_unet", 5),
    ("ckpt_clip", ["a", "b"]),
]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=str)
def test_a_wrong_value_is_named_with_its_key_and_a_remedy(key: str, value: object) -> None:
    with pytest.raises(WeightsError) as caught:
        ModelConfig.from_dict(with_value(key, value))
    assert "configuration.json" in caught.value.problem
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("key", "value"), [pair for pair in WRONG if pair[0] not in ("unet_norm_groups", "vae_norm_groups")]
)
def test_the_key_itself_is_named(key: str, value: object) -> None:
    with pytest.raises(WeightsError, match=key):
        ModelConfig.from_dict(with_value(key, value))


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ({"model": 5}, "model"),
        ({"model": {"model_cfg": []}}, "model_cfg"),
        ({"model": {"model_args": "x"}}, "model_args"),
        ({"model": {"model_args": {"defaults": 3}}}, "defaults"),
        ({"model": {"model_args": {"defaults": {"steps": "many"}}}}, "steps"),
    ],
)
def test_a_section_of_the_wrong_kind_is_named(document: dict[str, Any], name: str) -> None:
    with pytest.raises(WeightsError, match=name):
        ModelConfig.from_dict(document)


@pytest.mark.parametrize("document", [[], "text", 3, None])
def test_a_file_that_holds_no_object_is_refused(document: Any) -> None:
    with pytest.raises(WeightsError, match="JSON object"):
        ModelConfig.from_dict(document)
