"""One set of weights in every layout loads to the same tensors."""

from __future__ import annotations

import dataclasses
import os

import pytest
import torch
from model_layouts import (
    LAYOUTS,
    TINY,
    UNET,
    diffusers_configs,
    random_states,
    respelt,
    write_configuration,
    write_diffusers,
    write_json,
    write_original,
    write_zeroscope,
)
from safetensors.torch import save_file

from t2v_core.errors import WeightsError
from t2v_core.models.catalogue import find_model
from t2v_core.models.layouts import describe
from t2v_core.models.loading import blocks_of, build, count_parameters, load, load_part, read_into
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import ModelConfig, NoiseConfig
from t2v_core.models.tensors import FileError
from t2v_core.models.weights_file import read_weights


@pytest.fixture(scope="module")
def states():
    return random_states()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_loads_to_the_same_tensors(layout, states, tmp_path):
    collection = tmp_path / "models" / "ModelScope"
    LAYOUTS[layout](collection / "mine", TINY, states)

    model = find_model("mine", [collection])
    networks = load(model)

    loaded = {Part.TEXT: networks.text, Part.UNET: networks.unet, Part.AUTOENCODER: networks.autoencoder}
    for part, network in loaded.items():
        values = network.state_dict()
        assert list(values) == list(states[part])
        assert all(torch.equal(values[name], states[part][name]) for name in values), part
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
    assert model.config.vae.scale_factor == TINY.vae.scale_factor


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64, torch.float32])
@pytest.mark.parametrize("wanted", [None, torch.float16, torch.bfloat16, torch.float32])
def test_weights_come_in_the_dtype_that_is_asked_for(stored, wanted, tmp_path):
    states = random_states(dtype=stored)
    write_original(tmp_path, TINY, states)
    network = load_part(describe(tmp_path), Part.TEXT, dtype=wanted)
    for name, value in network.state_dict().items():
        assert value.dtype == (wanted or stored)
        assert torch.equal(value, states[Part.TEXT][name].to(wanted or stored))


@pytest.mark.parametrize(("stored", "wanted"), [(torch.float16, torch.bfloat16), (torch.bfloat16, torch.float16)])
def test_every_number_of_16_bits_becomes_what_torch_makes_of_it(stored, wanted, tmp_path):
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).repeat(3).view(stored)
    save_file({"every": every}, tmp_path / "numbers.safetensors")
    ref = read_weights(tmp_path / "numbers.safetensors")["every"]
    found = torch.empty(ref.numel, dtype=wanted)
    read_into(found, ref)
    assert torch.equal(found.nan_to_num(7.0), every.to(wanted).nan_to_num(7.0))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_block_is_told_of_once_when_it_is_whole(layout, states, tmp_path):
    collection = tmp_path / "models" / "ModelScope"
    LAYOUTS[layout](collection / "mine", TINY, states)
    network = build(Part.UNET, TINY)
    told = []

    def completed(block):
        assert not any(weight.is_meta or weight.requires_grad for weight in block.parameters())
        assert not block.training
        told.append(block)

    model = find_model("mine", [collection])
    assert load_part(model, Part.UNET, network=network, completed=completed) is network
    assert set(told) == set(blocks_of(network))
    assert len(told) == len(set(told))


def test_progress_counts_the_bytes_of_all_files(states, tmp_path):
    write_original(tmp_path, TINY, states)
    seen = []
    load(describe(tmp_path), progress=lambda done, total: seen.append((done, total)))
    expected = sum(value.nbytes for state in states.values() for value in state.values())
    assert seen[0] == (0, expected)
    assert seen[-1] == (expected, expected)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_parameters_are_counted_without_loading(states, tmp_path):
    write_original(tmp_path, TINY, states)
    counted = count_parameters(describe(tmp_path), Part.UNET)
    assert counted == sum(value.numel() for value in states[Part.UNET].values())


def test_shared_storages_and_views_with_gaps_are_read_right(states, tmp_path):
    write_original(tmp_path, TINY, states)
    unet = dict(states[Part.UNET])
    weight = unet["time_embed.2.weight"]
    unet["time_embed.2.weight"] = weight.t().contiguous().t()
    bias = unet["time_embed.2.bias"]
    both = torch.stack([torch.zeros_like(bias), bias], dim=1).reshape(-1)
    unet["time_embed.2.bias"] = both[1::2]
    unet["time_embed.0.bias"] = both[::2]
    torch.save(unet, tmp_path / f"{UNET}.pth")
    loaded = load_part(describe(tmp_path), Part.UNET).state_dict()
    assert torch.equal(loaded["time_embed.2.weight"], weight)
    assert torch.equal(loaded["time_embed.2.bias"], bias)
    assert torch.equal(loaded["time_embed.0.bias"], torch.zeros_like(bias))


def test_the_hosts_torch_load_plays_no_part(states, tmp_path, monkeypatch):
    write_original(tmp_path, TINY, states)
    monkeypatch.setattr(torch, "load", None)
    load(describe(tmp_path))


def test_a_file_may_be_deleted_while_the_model_is_in_use(states, tmp_path):
    write_original(tmp_path, TINY, states)
    network = load_part(describe(tmp_path), Part.UNET)
    os.truncate(tmp_path / f"{UNET}.pth", 0)
    (tmp_path / f"{UNET}.pth").unlink()
    assert torch.equal(network.state_dict()["out.2.bias"], states[Part.UNET]["out.2.bias"])


def test_without_configuration_the_big_models_is_used_and_that_is_said(states, tmp_path):
    write_original(tmp_path, TINY, states)
    (tmp_path / "configuration.json").unlink()
    model = describe(tmp_path)
    assert model.config == ModelConfig()
    assert [note.file.name for note in model.notes] == ["configuration.json"]
    with pytest.raises(WeightsError, match="another size"):
        load(model)


def test_configured_file_names_are_honoured_in_any_format(states, tmp_path):
    write_original(tmp_path, TINY, states)
    (tmp_path / f"{UNET}.pth").unlink()
    write_configuration(tmp_path, TINY, ckpt_unet="mine.pth")
    save_file(states[Part.UNET], tmp_path / "mine.safetensors")
    assert describe(tmp_path).files[Part.UNET] == tmp_path / "mine.safetensors"


@pytest.mark.parametrize(
    "path",
    ["../../VQGAN_autoencoder.pth", "/etc/passwd", "a/../../../x.pth", "..\\..\\x.pth", "C:\\x.pth:stream", "x\0.pth"],
)
def test_configuration_cannot_point_out_of_the_models_folder(path, states, tmp_path):
    folder = tmp_path / "models" / "mine"
    write_zeroscope(folder, TINY, states)
    write_configuration(folder, TINY, ckpt_autoencoder=path)
    model = describe(folder, boundary=tmp_path / "models")
    with pytest.raises(FileError, match="outside the models folder") as caught:
        load(model)
    assert caught.value.path == folder / "configuration.json"


def test_a_folder_named_by_itself_is_its_own_boundary(states, tmp_path):
    write_zeroscope(tmp_path / "zs2_576w", TINY, states)
    with pytest.raises(FileError, match="outside"):
        load(describe(tmp_path / "zs2_576w"))
    load(describe(tmp_path / "zs2_576w", boundary=tmp_path))


def test_the_users_own_links_are_followed(states, tmp_path):
    write_original(tmp_path / "elsewhere", TINY, states)
    (tmp_path / "models").mkdir()
    try:
        (tmp_path / "models" / "t2v").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    except OSError:
        pytest.skip("no right to make links")
    load(find_model("t2v", [tmp_path / "models"]))


@pytest.mark.parametrize(("theirs", "ours"), [("epsilon", "eps"), ("v_prediction", "v"), ("sample", "x0")])
def test_a_diffusers_folders_schedule_is_taken_over(theirs, ours, states, tmp_path):
    write_diffusers(tmp_path, TINY, states)
    scheduler = {"prediction_type": theirs, "beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02,
                 "num_train_timesteps": 500, "trained_betas": None, "rescale_betas_zero_snr": True}  # fmt: skip
    write_json(tmp_path / "scheduler" / "scheduler_config.json", scheduler)
    expected = NoiseConfig(
        prediction=ours, num_timesteps=500, beta_schedule="linear", beta_start=0.0001, beta_end=0.02,
        rescale_betas_zero_snr=True,
    )  # fmt: skip
    assert describe(tmp_path).config.noise == expected


def test_a_diffusers_folders_sizes_are_taken_over(states, tmp_path):
    config = dataclasses.replace(TINY, vae=dataclasses.replace(TINY.vae, scale_factor=0.5))
    write_diffusers(tmp_path, config, states)
    found = describe(tmp_path).config
    assert (found.vae, found.text) == (config.vae, config.text)
    assert dataclasses.replace(found.unet, num_heads=config.unet.num_heads) == config.unet


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("unet/config.json", "_class_name", "UNet2DConditionModel"),
        ("unet/config.json", "act_fn", "gelu"),
        ("unet/config.json", "time_cond_proj_dim", 256),
        ("unet/config.json", "block_out_channels", "320"),
        ("unet/config.json", "down_block_types", ["DownBlockMotion", "DownBlockMotion"]),
        ("unet/config.json", "cross_attention_dim", 48),
        ("vae/config.json", "_class_name", "VQModel"),
        ("vae/config.json", "latent_channels", -4),
        ("text_encoder/config.json", "hidden_act", "quick_gelu"),
        ("text_encoder/config.json", "architectures", ["T5EncoderModel"]),
        ("scheduler/scheduler_config.json", "prediction_type", "flow"),
        ("scheduler/scheduler_config.json", "beta_schedule", "sigmoid"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(file, key, value, states, tmp_path):
    write_diffusers(tmp_path, TINY, states)
    write_json(tmp_path / file, diffusers_configs(TINY)[file] | {key: value})
    with pytest.raises(FileError) as caught:
        load(describe(tmp_path))
    assert caught.value.path == tmp_path / file
    assert key.replace("cross_attention_dim", "unet_context_dim") in caught.value.what


@pytest.mark.parametrize(
    ("special", "noted"),
    [({"pad_token": "!"}, False), ({"pad_token": {"content": "!"}}, False), ({}, False), ({"pad_token": "x"}, True)],
)
def test_a_tokenizer_that_pads_otherwise_is_noted(special, noted, states, tmp_path):
    write_diffusers(tmp_path, TINY, states)
    path = tmp_path / "tokenizer" / "special_tokens_map.json"
    write_json(path, special)
    assert [note.file for note in describe(tmp_path).notes] == [path] * noted


def test_a_folder_with_both_layouts_uses_the_complete_original(states, tmp_path):
    write_diffusers(tmp_path, TINY, states)
    assert describe(tmp_path).layout == "Diffusers"
    write_original(tmp_path, TINY, states)
    assert describe(tmp_path).layout == "original"


def test_a_clone_of_zeroscope_holds_two_models(states, tmp_path):
    collection = tmp_path / "text2video"
    write_diffusers(collection / "zeroscope_v2_576w", TINY, states)
    inner = collection / "zeroscope_v2_576w" / "zs2_576w"
    write_configuration(inner, TINY)
    torch.save(states[Part.UNET], inner / f"{UNET}.pth")
    torch.save(states[Part.TEXT], inner / "open_clip_pytorch_model.bin")
    model = find_model("zs2_576w", [collection])
    assert model.name == "zeroscope_v2_576w/zs2_576w"
    assert model.files[Part.AUTOENCODER].parent.name == "vae"
    load(model)


def test_shapes_that_differ_in_more_than_ones_are_refused(states, tmp_path):
    write_diffusers(tmp_path, TINY, states)
    theirs = respelt(Part.UNET, states[Part.UNET], TINY, "Diffusers")
    theirs["conv_in.weight"] = theirs["conv_in.weight"].transpose(0, 1).contiguous()
    save_file(theirs, tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(FileError, match=r"conv_in\.weight \(4×32×3×3 instead of 32×4×3×3\)"):
        load_part(describe(tmp_path), Part.UNET)
