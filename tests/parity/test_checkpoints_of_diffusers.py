"""What Diffusers and transformers save themselves is found, mapped and read whole."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from model_layouts import TINY, respelt

from t2v_core.models.layouts import DIFFUSERS, describe
from t2v_core.models.loading import load
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import ModelConfig

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

# Four levels as the real one, for that is where counting from both ends could go wrong.
SMALL = dataclasses.replace(
    TINY,
    unet=dataclasses.replace(TINY.unet, dim_mult=(1, 2, 4, 4), res_blocks=2, attn_scales=(1.0, 0.5, 0.25)),
    vae=dataclasses.replace(TINY.vae, dim_mult=(1, 2, 4, 4), res_blocks=2),
)


def oracles(config: ModelConfig):
    unet, vae, text = config.unet, config.vae, config.text
    torch.manual_seed(0)
    return (
        diffusers.UNet3DConditionModel(
            block_out_channels=tuple(unet.dim * mult for mult in unet.dim_mult),
            layers_per_block=unet.res_blocks,
            norm_num_groups=unet.norm_groups,
            cross_attention_dim=unet.context_dim,
            attention_head_dim=unet.head_dim,
        ),
        diffusers.AutoencoderKL(
            block_out_channels=tuple(vae.dim * mult for mult in vae.dim_mult),
            down_block_types=("DownEncoderBlock2D",) * len(vae.dim_mult),
            up_block_types=("UpDecoderBlock2D",) * len(vae.dim_mult),
            layers_per_block=vae.res_blocks,
            norm_num_groups=vae.norm_groups,
            scaling_factor=0.25,
        ),
        transformers.CLIPTextModel(
            transformers.CLIPTextConfig(
                hidden_size=text.width,
                intermediate_size=4 * text.width,
                num_hidden_layers=text.layers - 1,
                num_attention_heads=text.heads,
                vocab_size=text.vocab_size,
                hidden_act="gelu",
            )
        ),
        diffusers.DPMSolverMultistepScheduler(prediction_type="v_prediction", beta_schedule="scaled_linear"),
    )


@pytest.fixture(scope="module")
def models():
    return oracles(SMALL)


@pytest.mark.parametrize("shards", [False, True], ids=["whole", "sharded"])
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("variant", [None, "fp16"])
def test_a_saved_pipeline_loads_to_the_same_numbers(safe, shards, variant, models, tmp_path):
    unet, vae, text, scheduler = models
    sizes = {"max_shard_size": "200KB"} if shards else {}
    unet.save_pretrained(tmp_path / "unet", safe_serialization=safe, variant=variant, **sizes)
    vae.save_pretrained(tmp_path / "vae", safe_serialization=safe, variant=variant, **sizes)
    if safe:
        text.save_pretrained(tmp_path / "text_encoder", variant=variant, **sizes)
    else:  # current transformers write no .bin any more
        text.save_pretrained(tmp_path / "text_encoder")
        (tmp_path / "text_encoder" / "model.safetensors").unlink()
        torch.save(text.state_dict(), tmp_path / "text_encoder" / "pytorch_model.bin")
    scheduler.save_pretrained(tmp_path / "scheduler")

    model = describe(tmp_path)
    networks = load(model)

    assert model.layout == DIFFUSERS
    assert not model.notes
    assert model.config.vae.scale_factor == 0.25
    assert model.config.noise.prediction == "v"
    loaded = (
        (Part.UNET, networks.unet, unet, "Diffusers"),
        (Part.AUTOENCODER, networks.autoencoder, vae, "Diffusers"),
        (Part.TEXT, networks.text, text, "transformers"),
    )
    for part, ours, theirs, spelling in loaded:
        expected = {name.removeprefix("text_model."): value for name, value in theirs.state_dict().items()}
        expected.pop("embeddings.position_ids", None)
        values = respelt(part, ours.state_dict(), SMALL, spelling)
        assert values.keys() == expected.keys()
        for name, value in values.items():
            assert torch.equal(value.reshape(expected[name].shape), expected[name]), name
