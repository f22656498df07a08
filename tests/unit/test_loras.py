"""LoRAs as people ask for them: names, weights and tags, where they are found, and what a run with them does."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from lora_files import random_pair, write_kohya
from model_layouts import TINY, random_states, write_original
from safetensors.torch import save_file

from t2v_core.errors import ModelNotFoundError, RequestError, WeightsError
from t2v_core.frontends.cli import main
from t2v_core.infotext import format_infotext, parse_infotext
from t2v_core.models.catalogue import find_model
from t2v_core.models.loading import load_part
from t2v_core.models.lora.applied import AppliedLoras, Dose, embed_guidance
from t2v_core.models.lora.file import read_lora
from t2v_core.models.lora.find import find, find_all, folders
from t2v_core.models.lora.places import places_of
from t2v_core.models.lora.wanted import Wanted, parse, take_from_prompt, written
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.rendering.distilled import DISTILLATIONS, sampler_of
from t2v_core.rendering.local import LocalRenderer
from t2v_core.rendering.named import NamedModelsRenderer
from t2v_core.rendering.residence import Residence
from t2v_core.request import GenerationRequest, ModelDefaults
from t2v_core.run import Run
from t2v_core.sampling import load, schedule
from t2v_core.sampling.noise import FrameNoise
from t2v_core.sampling.schedule import NoiseSchedule

CONFIG = dataclasses.replace(
    TINY,
    text=dataclasses.replace(TINY.text, vocab_size=49408),
    defaults=ModelDefaults(steps=2, width=16, height=8, frames=3),
)
REQUEST = GenerationRequest(prompt="a red ball", seed=1, precision="fp32")
NONE_PUBLISHED_HAS = ("conv_in", "conv_out", "time_embedding.")


@pytest.fixture(scope="module")
def states():
    return {part: {name: value * 3 for name, value in state.items()} for part, state in random_states(CONFIG).items()}


@pytest.fixture
def renderer(host, states, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_original(host.models_folders[0] / "mine", CONFIG, states)
    return LocalRenderer(host)


def lora_folder(host):
    folder = host.models_folders[0] / "lora"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def put_style(host, name="style"):
    path, _ = write_kohya(lora_folder(host) / name)
    return path


def put_mcm(host, name="mcm"):
    """A PEFT folder with exactly the published ones' layers."""
    folder = lora_folder(host) / name
    folder.mkdir()
    tensors = {}
    for seed, place in enumerate(places_of(CONFIG).in_order[Part.UNET]):
        if not place.module.startswith(NONE_PUBLISHED_HAS) and ".temp_convs." not in place.module:
            up, down = random_pair(place.shape[:2] if len(place.shape) == 3 else place.shape, seed=seed)
            tensors |= {
                f"base_model.model.{place.module}.lora_A.weight": down,
                f"base_model.model.{place.module}.lora_B.weight": up,
            }
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 4}))


def put_turbo(host, name="T2V-Turbo-MS"):
    """A folder with the nameless list alone."""
    folder = lora_folder(host) / name
    folder.mkdir()
    tensors = []
    for seed, place in enumerate(places_of(CONFIG).in_order[Part.UNET]):
        tensors += random_pair(place.shape[:2] if len(place.shape) == 3 else place.shape, seed=seed)
    torch.save(tensors, folder / "unet_lora.pt")


def render(renderer, run=None, **changes):
    request = dataclasses.replace(REQUEST, model="mine", **changes)
    return renderer.render(renderer.resolve(request), run or Run())


# --- what is typed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ()),
        (" , ", ()),
        ("mcm", (Wanted("mcm"),)),
        ("mcm, style : 0.8", (Wanted("mcm"), Wanted("style", 0.8))),
        ("a/b:-0.5", (Wanted("a/b", -0.5),)),
        (r"C:\loras\x.safetensors", (Wanted(r"C:\loras\x.safetensors"),)),
        (r"C:\loras\x.pt:.5", (Wanted(r"C:\loras\x.pt", 0.5),)),
        ("Style, style:2", (Wanted("style", 2.0),)),
    ],
)
def test_names_and_weights_are_read_and_written(text, wanted):
    assert parse(text) == wanted
    assert parse(written(wanted)) == wanted


@pytest.mark.parametrize("text", ["style:much", ":0.5", "style:", "style:nan", "style:inf", "style:11", "style:1:2x"])
def test_a_weight_that_is_no_number_is_said(text):
    with pytest.raises(RequestError) as caught:
        parse(text)
    assert [problem.field for problem in caught.value.problems] == ["lora"]


@pytest.mark.parametrize(
    ("prompt", "field", "left", "wanted"),
    [
        ("a dog <lora:style:0.7>, at night", "", "a dog, at night", "style:0.7"),
        ("<lora:style><LoRA:mcm:1> a dog", "", "a dog", "style, mcm"),
        ("a dog <lora:style:2>", "style:0.5, mcm", "a dog", "style:2, mcm"),
        ("a <b> dog < lora:x >", "mcm", "a <b> dog < lora:x >", "mcm"),
    ],
)
def test_the_webuis_tags_leave_the_prompt_and_join_the_field(prompt, field, left, wanted):
    request = take_from_prompt(GenerationRequest(prompt=prompt, lora=field))
    assert (request.prompt, request.lora) == (left, wanted)


# --- where they are -------------------------------------------------------------------------------------------------


def test_loras_are_found_beside_the_models_and_in_the_webuis_folder(host):
    put_style(host)
    put_style(host, "people/face")
    put_mcm(host, "modelscopet2v-laion")
    put_turbo(host)
    webui = host.models_folders[0].parent / "Lora"
    write_kohya(webui / "ModelScope" / "other")
    write_kohya(webui / "an-image-model's")
    names = [lora.name for lora in find_all(host.models_folders)]
    assert names == ["modelscopet2v-laion", "other", "people", "style", "T2V-Turbo-MS"]
    assert find("people/face", host.models_folders).name == "people"
    put_style(host, "people/hand")
    names = [lora.name for lora in find_all(host.models_folders)]
    assert names == ["modelscopet2v-laion", "other", "people/face", "people/hand", "style", "T2V-Turbo-MS"]
    for name in ("FACE", "people/face", r"people\face.safetensors", "t2v-turbo-ms"):
        assert find(name, host.models_folders).path.is_file()


def test_folders_of_loras_are_no_models(host, states, renderer):
    put_style(host)
    put_mcm(host)
    assert renderer.resolve(REQUEST).model == "mine"


def test_an_unknown_name_is_answered_with_the_nearest_and_with_where_they_go(host, renderer):
    with pytest.raises(RequestError, match=r"here, nor any other\. .*lora"):
        renderer.resolve(REQUEST.with_field("lora", "style"))
    put_style(host)
    with pytest.raises(RequestError, match="Did you mean 'style'") as caught:
        renderer.resolve(REQUEST.with_field("lora", "styl"))
    assert str(folders(host.models_folders)[0]) in str(caught.value)


def test_a_path_is_a_name_on_ones_own_machine_and_nowhere_else(host, renderer, tmp_path):
    path, _ = write_kohya(tmp_path / "elsewhere" / "style")
    request = dataclasses.replace(REQUEST, model="mine", lora=f"{path}:0.5")
    assert renderer.resolve(request).lora == f"{path}:0.5"
    with pytest.raises(RequestError, match="There is no LoRA"):
        NamedModelsRenderer(host).resolve(request)
    with pytest.raises(RequestError, match="There is no LoRA"):
        NamedModelsRenderer(host).resolve(request.with_field("lora", "../../../elsewhere/style"))


def test_a_file_of_another_model_is_said_before_any_work(host, renderer):
    save_file({"lora_unet_mid_block_x.lora_up.weight": torch.zeros(2, 2)}, lora_folder(host) / "bad.safetensors")
    with pytest.raises(WeightsError, match="no LoRA of this model"):
        renderer.resolve(REQUEST.with_field("lora", "bad"))


def test_eight_bit_weights_refuse_loras_before_any_work(host, renderer):
    put_style(host)
    with pytest.raises(RequestError, match="choose fp16"):
        renderer.resolve(dataclasses.replace(REQUEST, model="mine", lora="style", precision="fp8"))
    assert renderer.resolve(dataclasses.replace(REQUEST, model="mine", precision="fp8")).precision == "fp8"


# --- what a run does ------------------------------------------------------------------------------------------------


def test_a_lora_changes_the_video_and_the_next_one_without_it_is_what_it_was(host, renderer):
    put_style(host)
    plain = render(renderer)
    styled = render(renderer, lora="Style:2")
    stronger = render(renderer, lora="style:4")
    again = render(renderer)
    assert not np.array_equal(plain.frames, styled.frames)
    assert not np.array_equal(styled.frames, stronger.frames)
    assert np.array_equal(plain.frames, again.frames)
    assert np.array_equal(styled.frames, render(LocalRenderer(host), lora="style:2").frames)
    assert np.array_equal(styled.frames, render(renderer, prompt="a red ball <lora:style:2>").frames)


def test_the_infotext_tells_names_weights_and_hashes_and_gives_them_back(host, renderer):
    put_style(host)
    video = render(renderer, lora="style:2")
    text = format_infotext(video.request, video.model, notes=video.notes)
    parsed = parse_infotext(text)
    assert parsed.values["lora"] == "style:2"
    name, digest = parsed.extras["LoRA hashes"].split(": ")
    assert name == "style"
    assert len(digest) == 10
    plain = render(renderer)
    assert "LoRA" not in format_infotext(plain.request, plain.model, notes=plain.notes)


def test_text_features_of_one_lora_are_not_taken_for_anothers(host, renderer):
    width = CONFIG.text.width
    up, down = random_pair((width, width))
    name = "lora_te_text_model_encoder_layers_0_self_attn_v_proj"
    tensors = {f"{name}.lora_up.weight": up * 9, f"{name}.lora_down.weight": down * 9}
    save_file(tensors, lora_folder(host) / "words.safetensors")
    plain, changed, again = (render(renderer, lora=lora).frames for lora in ("", "words:5", ""))
    assert not np.array_equal(plain, changed)
    assert np.array_equal(plain, again)


@pytest.mark.parametrize(("put", "scale"), [(put_mcm, 1.0), (put_turbo, 7.5)])
def test_a_distilled_lora_fills_open_fields_and_leaves_what_was_chosen(host, renderer, put, scale):
    put(host, "few")
    resolved = renderer.resolve(dataclasses.replace(REQUEST, model="mine", lora="few:0.9"))
    assert (resolved.sampler, resolved.steps, resolved.cfg_scale) == ("LCM", 4, scale)
    assert (resolved.width, resolved.frames) == (16, 3)
    chosen = dataclasses.replace(REQUEST, model="mine", lora="few", sampler="Euler", steps=7, cfg_scale=9.0)
    resolved = renderer.resolve(chosen)
    assert (resolved.sampler, resolved.steps, resolved.cfg_scale) == ("Euler", 7, 9.0)
    unused = renderer.resolve(dataclasses.replace(REQUEST, model="mine", lora="few:0"))
    assert (unused.sampler, unused.steps) == ("DPM++ 2M", 2)


def passes_of(renderer, monkeypatch, **changes):
    """How many texts each of the UNet's passes has, and the video."""
    from t2v_core.models.modelscope.attention import texts_in
    from t2v_core.models.modelscope.unet import UNet3D

    batches, forward = [], UNet3D.forward

    def counted(self, latents, timesteps, text):
        if latents.device.type != "meta":  # a forecast goes through it without computing
            batches.append(texts_in(text))
        return forward(self, latents, timesteps, text)

    with monkeypatch.context() as patch:
        patch.setattr(UNet3D, "forward", counted)
        return batches, render(renderer, **changes)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
@pytest.mark.parametrize("put", [put_mcm, put_turbo])
def test_few_steps_take_one_pass_each(host, renderer, monkeypatch, put, steps):
    put(host, "few")
    batches, video = passes_of(renderer, monkeypatch, lora="few", steps=steps)
    assert batches == [1] * steps
    assert video.request.sampler == "LCM"
    assert np.asarray(video.frames).std() > 1


def test_chosen_guidance_is_obeyed_with_mcm_and_embedded_with_turbo(host, renderer, monkeypatch):
    put_mcm(host, "mcm")
    put_turbo(host, "turbo")
    batches, _ = passes_of(renderer, monkeypatch, lora="mcm", cfg_scale=9.0, steps=2)
    assert batches == [2, 2]
    batches, weak = passes_of(renderer, monkeypatch, lora="turbo", cfg_scale=2.0, steps=2)
    assert batches == [1, 1]
    assert not np.array_equal(weak.frames, render(renderer, lora="turbo", cfg_scale=9.0, steps=2).frames)
    # Without the LoRA nothing of it is left.
    fresh = render(LocalRenderer(host), steps=2)
    assert np.array_equal(render(renderer, steps=2).frames, fresh.frames)


def test_the_command_line_lists_loras_and_its_doctor_looks_at_them(host, renderer, capsys):
    put_mcm(host)
    put_turbo(host, "turbo")
    put_style(host)
    save_file({"lora_unet_mid_block_x.lora_up.weight": torch.zeros(2, 2)}, lora_folder(host) / "bad.safetensors")
    models = ["--models-folder", str(host.models_folders[0].parent)]
    assert main(["loras", "--json", *models]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["bad", "mcm", "style", "turbo"]

    assert main(["doctor", "--json", "--thorough", *models]) == WeightsError.exit_code
    said = {report["name"]: report["findings"] for report in json.loads(capsys.readouterr().out)}
    assert re.search(r"MCM, \d+ layers of the UNet, rank 4", said["mcm"][0]["what"])
    assert "T2V-Turbo" in said["turbo"][0]["what"]
    assert "15 layers of the UNet" in said["style"][0]["what"]
    assert said["bad"][0]["severity"] == "error"
    assert said["bad"][0]["remedy"]
    assert {"mine", "demo"} <= said.keys()

    assert main(["doctor", "style", *models]) == 0
    assert "style.safetensors is whole" in capsys.readouterr().out
    assert main(["doctor", "nothing", *models]) == ModelNotFoundError.exit_code


def test_where_there_are_no_loras_the_listing_says_where_they_go(tmp_path, capsys):
    assert main(["loras", "--models-folder", str(tmp_path)]) == 0
    assert str(tmp_path / "lora") in capsys.readouterr().err


@pytest.fixture
def tab():
    pytest.importorskip("gradio")
    from t2v_core.frontends.tab import about

    return about


def test_the_tab_fills_what_a_distilled_lora_wants_and_gives_back_what_the_model_does(host, renderer, tab):
    put_mcm(host)
    put_style(host)

    def filled(text, sampler):
        changes = tab.of_loras(text, model="mine", sampler=sampler, models_folders=host.models_folders)
        return [change.get("value") for change in changes]

    assert filled("mcm:0.9", "DPM++ 2M") == ["LCM", 4, 1.0]
    assert filled("", "LCM") == ["DPM++ 2M", 2, 9.0]
    for text in ("mc", "mcm:", "style", ""):
        assert filled(text, "Euler") == [None] * 3


# --- the steps themselves -------------------------------------------------------------------------------------------


def test_the_guidance_embedding_is_the_authors():
    """Their formula, in one line of numpy: sines, then cosines, of 1000·w at 128 frequencies down to 1/10000."""
    angles = 7500 * np.exp(-np.arange(128) * np.log(10000) / 127)
    assert np.allclose(embed_guidance(7.5), np.concatenate([np.sin(angles), np.cos(angles)]), atol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_the_consistency_steps_of_t2v_turbo_are_the_authors(steps):
    """Their formulas, written out once more, with the same noise."""
    turbo = next(row for row in DISTILLATIONS.values() if row.embeds_guidance)
    noises, noise_schedule = FrameNoise(seed=3, channels=4, frames=2, height=3, width=5), NoiseSchedule.linear_sd()
    request = GenerationRequest(sampler="LCM", steps=steps)
    sampler = sampler_of(request, turbo)
    levels = schedule.levels("Model", steps, noise_schedule, sampler=sampler)

    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = torch.cumprod(1 - betas, dim=0)
    timesteps = (np.arange(1, 51) * 20 - 1)[:: -(50 // steps)][:steps]
    assert [level.timestep for level in levels[:-1]] == timesteps.tolist()

    def network(latents, timestep):
        return torch.tanh(latents * 0.9 + timestep / 700)

    theirs = noises.draw(0).double()
    for index, timestep in enumerate(timesteps):
        clean = (theirs - (1 - alphas[timestep]).sqrt() * network(theirs, timestep)) / alphas[timestep].sqrt()
        scaled = timestep / 0.1
        denoised = scaled / (scaled**2 + 0.25) ** 0.5 * clean + 0.25 / (scaled**2 + 0.25) * theirs
        following = timesteps[index + 1] if index + 1 < steps else None
        if following is not None:
            fresh = noises.draw(index + 1).double()
            theirs = alphas[following].sqrt() * denoised + (1 - alphas[following]).sqrt() * fresh

    def denoise(latents, level):
        return (latents - level.sigma * network(latents, level.timestep)) / level.alpha

    *_, last = load(sampler)(denoise, noises.draw(0).double(), levels, noise=noises, eta=0.0)
    assert torch.allclose(last.denoised, denoised, rtol=1e-6, atol=1e-8)
    assert torch.equal(last.latents, last.denoised)


def test_mcm_samples_as_lcm_does_with_its_own_scaling():
    mcm = next(row for row in DISTILLATIONS.values() if not row.embeds_guidance)
    sampler = sampler_of(GenerationRequest(sampler="LCM", steps=4), mcm)
    levels = schedule.levels("Model", 4, NoiseSchedule.linear_sd(), sampler=sampler)
    assert [level.timestep for level in levels[:-1]] == [999, 759, 499, 259]
    assert sampler.options == {"timestep_scaling": 4.0}
    assert sampler_of(GenerationRequest(sampler="Euler", steps=4), mcm).name == "Euler"


def test_a_lora_reaches_weights_that_are_streamed_block_by_block(host, renderer, monkeypatch):
    """What was fetched ahead before the change, as a GPU does with the next block, isn't used after it."""
    put_style(host)
    folder = find_model("mine", host.models_folders)
    monkeypatch.setattr(Residence, "_streams", lambda self, name: True)
    inputs = torch.ones(1, 4, 2, 4, 4), torch.tensor([500]), torch.ones(1, 3, CONFIG.text.width)
    residence, applied = Residence("cpu"), AppliedLoras(folder)
    streamed = residence.part(Part.UNET, lambda device: load_part(folder, Part.UNET, device=device))
    with torch.inference_mode():
        before = streamed(*inputs)
        residence._stream._fetch(1, into=residence._stream._places[1])  # the first convolution
        applied.wanted = (Dose(read_lora(find("style", host.models_folders).path, folder.config), 2.0),)
        with residence.changing(Part.UNET):
            applied.update(Part.UNET, streamed)
        after = streamed(*inputs)
        plain = load_part(folder, Part.UNET)
        applied.update(Part.UNET, plain)
        assert torch.equal(after, plain(*inputs))
    assert not torch.equal(before, after)
