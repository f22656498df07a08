"""LoRAs in every published format: what they add, and that the weights come back to the bit."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from lora_files import FORMATS, LAYERS, RANK, random_pair, write_kohya, write_peft
from model_layouts import LAYOUTS, TINY, Payload, pickled, random_states, write_original, zip_of_pickle
from safetensors.torch import save_file

from t2v_core.models import cpu_kernels
from t2v_core.models.catalogue import find_model
from t2v_core.models.loading import load_part
from t2v_core.models.lora.applied import AppliedLoras, Dose
from t2v_core.models.lora.file import Kind, read_lora
from t2v_core.models.lora.places import GUIDANCE, places_of
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.models.modelscope.packable import Packable, compute_in, pack, unpack
from t2v_core.models.tensors import FileError

STATES = random_states()
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture
def folder(tmp_path):
    return put(tmp_path, write_original)


def put(tmp_path, layout):
    models = tmp_path / "models" / "ModelScope"
    layout(models / "mine", TINY, STATES)
    return find_model("mine", [models])


def wearing(folder, network, *doses, part=Part.UNET):
    applied = AppliedLoras(folder)
    applied.wanted = doses
    applied.update(part, network)
    return applied


def bits(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(value.flatten().view(torch.uint8), second[name].flatten().view(torch.uint8))
        for name, value in first.items()
    )


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_format_adds_its_product_and_comes_out_to_the_bit(folder, tmp_path, name, dtype):
    path, change = FORMATS[name](tmp_path / "lora")
    network = load_part(folder, Part.UNET, dtype=dtype)
    before = bits(network)
    applied = wearing(folder, network, Dose(read_lora(path, TINY), 0.5))
    touched = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert touched - {"out.2.bias"} == change.keys()
    for key, added in change.items():
        expected = (before[key].float() + 0.5 * added).to(dtype)
        # One rounding of the last digit apart, where sums in another order fall on another side.
        assert torch.allclose(
            network.state_dict()[key].float(), expected.float(), rtol=torch.finfo(dtype).eps, atol=1e-6
        )
    applied.wanted = ()
    applied.update(Part.UNET, network)
    assert same(bits(network), before)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_bits_come_back_from_every_layout_of_the_model(tmp_path, layout):
    folder = put(tmp_path, LAYOUTS[layout])
    network = load_part(folder, Part.UNET, dtype=torch.float16)
    before = bits(network)
    path, _ = write_kohya(tmp_path / "lora")
    applied = wearing(folder, network, Dose(read_lora(path, TINY), 1.0))
    assert not same(bits(network), before)
    applied.wanted = ()
    applied.update(Part.UNET, network)
    assert same(bits(network), before)


def test_several_loras_add_up_and_are_rounded_once(folder, tmp_path):
    one, change = FORMATS["kohya"](tmp_path / "one")
    two, other = FORMATS["stable LoRA"](tmp_path / "two")
    network = load_part(folder, Part.UNET, dtype=torch.bfloat16)
    before = bits(network)
    wearing(folder, network, Dose(read_lora(one, TINY), 0.7), Dose(read_lora(two, TINY), -0.3))
    for name in change.keys() | other.keys():
        sum_of = before[name].float() + 0.7 * change.get(name, 0) - 0.3 * other.get(name, 0)
        assert torch.allclose(network.state_dict()[name].float(), sum_of.bfloat16().float(), rtol=2**-7, atol=1e-6)


def test_other_loras_replace_the_first_ones_exactly(folder, tmp_path):
    one, _ = FORMATS["kohya"](tmp_path / "one")
    two, _ = FORMATS["stable LoRA"](tmp_path / "two")
    changed, fresh = (load_part(folder, Part.UNET, dtype=torch.float16) for _ in range(2))
    applied = wearing(folder, changed, Dose(read_lora(one, TINY), 1.0))
    applied.wanted = (Dose(read_lora(two, TINY), 0.4),)
    assert applied.differ(Part.UNET, changed)
    applied.update(Part.UNET, changed)
    assert not applied.differ(Part.UNET, changed)
    wearing(folder, fresh, Dose(read_lora(two, TINY), 0.4))
    assert same(bits(changed), bits(fresh))


def test_what_was_interrupted_is_begun_again_from_the_files(folder, tmp_path):
    path, _ = write_kohya(tmp_path / "lora")
    network, fresh = (load_part(folder, Part.UNET) for _ in range(2))
    applied = AppliedLoras(folder)
    applied.wanted = (Dose(read_lora(path, TINY), 1.0),)

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        applied.update(Part.UNET, network, progress=stop)
    applied.update(Part.UNET, network)
    wearing(folder, fresh, Dose(read_lora(path, TINY), 1.0))
    assert same(bits(network), bits(fresh))


@pytest.mark.skipif(not cpu_kernels.usable(torch.float32), reason="torch has no oneDNN here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_packed_weights_are_changed_as_plain_ones_are_and_stay_packed(dtype, folder, tmp_path):
    path, _ = write_kohya(tmp_path / "lora")
    packed, plain = (load_part(folder, Part.UNET, dtype=dtype) for _ in range(2))
    before = bits(plain)
    compute_in(packed, torch.float32)  # which float16 is widened for in each product
    pack(packed)
    applied = wearing(folder, packed, Dose(read_lora(path, TINY), 0.5))
    wearing(folder, plain, Dose(read_lora(path, TINY), 0.5))
    assert any(isinstance(layer, Packable) and layer.is_packed for layer in packed.modules())
    unpack(packed)
    assert same(bits(packed), bits(plain))
    pack(packed)
    applied.wanted = ()
    applied.update(Part.UNET, packed)
    unpack(packed)
    assert same(bits(packed), before)


def test_a_bias_takes_the_place_of_the_models_own_by_its_weight(folder, tmp_path):
    path, _ = FORMATS["stable LoRA"](tmp_path / "lora")
    network = load_part(folder, Part.UNET)
    before = network.state_dict()["out.2.bias"].clone()
    wearing(folder, network, Dose(read_lora(path, TINY), 1.0))
    assert torch.allclose(network.state_dict()["out.2.bias"], torch.full((4,), 0.25))
    assert not torch.allclose(before, torch.full((4,), 0.25))


TEXT_NAMES = {
    "kohya": "lora_te_text_model_encoder_layers_1_{}.lora_{}.weight",
    "Diffusers": "text_encoder.text_model.encoder.layers.1.{}.lora_linear_layer.{}.weight",
    "PEFT": "base_model.model.text_model.encoder.layers.1.{}.lora_{}.weight",
    "stable LoRA for the WebUI": "resblocks.1.{}.lora_{}",
}


@pytest.mark.parametrize("style", TEXT_NAMES)
def test_the_text_tower_is_changed_where_a_file_has_entries_for_it(folder, tmp_path, style):
    """Query, key and value are rows of one matrix here and layers of their own there."""
    width, form = TINY.text.width, TEXT_NAMES[style]
    webui = style.startswith("stable")
    layers = {
        "attn.k_proj" if webui else "self_attn.k_proj": ("attn.in_proj_weight", (width, width)),
        "attn.out_proj" if webui else "self_attn.out_proj": ("attn.out_proj.weight", (width, width)),
        "mlp.c_fc" if webui else "mlp.fc1": ("mlp.c_fc.weight", (4 * width, width)),
    }
    tensors, change = {}, {}
    for seed, (layer, (name, shape)) in enumerate(layers.items()):
        spelt = layer.replace(".", "_") if style == "kohya" else layer
        up, down = random_pair(shape, seed=seed)
        a, b = ("A", "B") if "PEFT" in style or webui else ("down", "up")
        tensors |= {form.format(spelt, b): up, form.format(spelt, a): down}
        change[f"transformer.resblocks.1.{name}"] = up @ down
    save_file(tensors, tmp_path / "lora.safetensors")
    tower = load_part(folder, Part.TEXT)
    before = bits(tower)
    found = read_lora(tmp_path / "lora.safetensors", TINY)
    applied = wearing(folder, tower, Dose(found, 2.0), part=Part.TEXT)
    after = tower.state_dict()
    for name, added in change.items():
        rows = slice(width, 2 * width) if name.endswith("in_proj_weight") else slice(None)
        expected = before[name].clone()
        expected[rows] += 2.0 * added
        assert torch.allclose(after[name], expected, atol=1e-6)
    assert not applied.differ(Part.UNET, load_part(folder, Part.UNET)), "the UNet isn't meant"
    applied.wanted = ()
    applied.update(Part.TEXT, tower)
    assert same(bits(tower), before)


def test_an_embedding_is_changed_the_other_way_round(folder, tmp_path):
    vocabulary, width = TINY.text.vocab_size, TINY.text.width
    down, up = torch.randn(3, vocabulary), torch.randn(width, 3)
    name = "text_model.embeddings.token_embedding"
    save_file({f"{name}.lora_A": down, f"{name}.lora_B": up}, tmp_path / "lora.safetensors")
    tower = load_part(folder, Part.TEXT)
    before = tower.token_embedding.weight.clone()
    wearing(folder, tower, Dose(read_lora(tmp_path / "lora.safetensors", TINY), 1.0), part=Part.TEXT)
    assert torch.allclose(tower.token_embedding.weight, before + (up @ down).T, atol=1e-5)


def list_of(places):
    tensors = []
    for seed, place in enumerate(places):
        tensors += random_pair(place.shape[:2] if len(place.shape) == 3 else place.shape, seed=seed)
    return tensors


@pytest.mark.parametrize("form", ["torch list", "older torch list", "numbered safetensors"])
@pytest.mark.parametrize("chosen", ["all", "without guidance", "matrices", "attention"])
def test_nameless_files_follow_the_order_of_diffusers(folder, tmp_path, form, chosen):
    every = places_of(TINY).in_order[Part.UNET]
    places = {
        "all": every,
        "without guidance": [place for place in every if place.tensor != GUIDANCE],
        "matrices": [place for place in every if len(place.shape) < 4 and place.tensor != GUIDANCE],
        "attention": [place for place in every if ".attn" in place.module],
    }[chosen]
    tensors, path = list_of(places), tmp_path / "unet_lora.pt"
    if form == "numbered safetensors":
        numbered = {f"unet:{i // 2}:{('up', 'down')[i % 2]}": value.clone() for i, value in enumerate(tensors)}
        path = tmp_path / "lora.safetensors"
        save_file(numbered, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=form == "torch list")
    found = read_lora(path, TINY)
    assert (found.kind is Kind.T2V_TURBO) == (chosen == "all")
    assert [piece.place for piece in found.pieces] == list(places)
    last = found.pieces[-1]
    up, down = tensors[-2:]
    assert torch.allclose(last.product(), (up.flatten(1) @ down.flatten(1)).reshape(last.place.shape), atol=1e-6)


def digest(lines):
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def test_the_order_of_the_published_lists_is_the_one_that_is_known_for_the_full_size():
    """The digest is of the published order: Diffusers' name of each layer and the shape of its weight there."""
    places = places_of(ModelConfig()).in_order[Part.UNET]
    lines = [f"{place.module} {place.shape[:2] if len(place.shape) == 3 else place.shape}" for place in places]
    assert len(lines) == 575
    assert digest(lines) == "4dfa213576eab5ce"


def test_mcm_is_known_by_its_layers(tmp_path):
    """The digest is of the published names of layers, each once, in their alphabet's order."""
    every = places_of(ModelConfig()).in_order[Part.UNET]
    modules = [
        place.module
        for place in every
        if not place.module.startswith(("conv_in", "conv_out", "time_embedding."))
        and ".temp_convs." not in place.module
    ]
    assert digest(sorted(modules)) == "0aa42915f5228aa8"


# --- what is refused ------------------------------------------------------------------------------------------------


def written(path, tensors):
    save_file(tensors, path)
    return path


def named(*layers, down=(2, 32), up=(32, 2)):
    return {
        f"lora_unet_{layer}.lora_{half}.weight": torch.zeros(shape)
        for layer in layers
        for half, shape in (("down", down), ("up", up))
    }


ATTN2_K = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (named(ATTN2_K, down=(2, 768)), "Stable Diffusion 1"),
        (named(ATTN2_K, down=(2, 2048)), "SDXL"),
        (named(ATTN2_K, up=(33, 2)), "33×2"),
        (named(ATTN2_K, up=(32, 3)), "other sizes"),
        (named(*(f"down_blocks_9_layer_{i}" for i in range(9))), r"9 tensors: .* and 4 more"),
        (named(ATTN2_K) | named("down_blocks_9_conv"), "down_blocks_9_conv"),
        ({f"lora_unet_{ATTN2_K}.lora_up.weight": torch.zeros(32, 2)}, r"lacks one half of .*attn2\.to_k \(down\)"),
        ({"lora_unet_x.hada_w1_a": torch.zeros(2, 2)}, "LoHa"),
        ({"down_blocks.0.motion_modules.0.proj_in.lora_A.weight": torch.zeros(2, 2)}, "AnimateDiff"),
        (STATES[Part.UNET], "the text-to-video UNet's weights, not a LoRA"),
        ({"emb_params": torch.zeros(2, 32)}, "textual inversion"),
        ({"anything": torch.zeros(2)}, "no LoRA.*anything"),
        (named(ATTN2_K) | {f"unet.{LAYERS['out.2'][0]}.lora.up.weight": torch.zeros(4, 2, 1, 1, dtype=torch.int32),
          f"unet.{LAYERS['out.2'][0]}.lora.down.weight": torch.zeros(2, 32, 3, 3, dtype=torch.int32)}, "whole numbers"),
    ],
)  # fmt: skip
def test_what_is_no_lora_of_this_model_is_said_with_what_it_is(tmp_path, tensors, words):
    path = written(tmp_path / "wrong.safetensors", tensors)
    with pytest.raises(FileError, match=words) as caught:
        read_lora(path, TINY)
    assert caught.value.remedy
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ([torch.zeros(2, 2)] * 3, "3 tensors, not of pairs"),
        ([torch.zeros(2, 2)] * 4, "2 pairs of tensors without names"),
        (list_of(places_of(TINY).in_order[Part.UNET][::-1]), "order"),
    ],
)
def test_a_list_that_fits_no_order_is_refused(tmp_path, tensors, words):
    torch.save(tensors, tmp_path / "unet_lora.pt")
    with pytest.raises(FileError, match=words):
        read_lora(tmp_path / "unet_lora.pt", TINY)


def test_code_in_a_lora_is_never_run(tmp_path):
    zip_of_pickle(tmp_path / "bad.pt", pickled([Payload(print, "run")]))
    with pytest.raises(FileError, match=r"code in it.*Nothing of it was run"):
        read_lora(tmp_path / "bad.pt", TINY)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"peft_type": "LOHA"}, "LOHA"), ({"use_dora": True}, "DORA"), ({"lora_alpha": "much"}, "no number")],
)
def test_peft_settings_that_are_no_loras_are_refused(tmp_path, settings, words):
    path, _ = write_peft(tmp_path / "lora")
    path.with_name("adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(FileError, match=words):
        read_lora(path, TINY)


def test_pefts_patterns_of_alpha_and_its_other_scale_are_followed(tmp_path):
    path, _ = write_peft(tmp_path / "lora")
    settings = {"r": RANK, "lora_alpha": 8, "use_rslora": True, "alpha_pattern": {"attn1.to_q": 3}}
    path.with_name("adapter_config.json").write_text(json.dumps(settings))
    scales = {piece.place.module: piece.scale for piece in read_lora(path, TINY).pieces}
    assert scales["conv_in"] == 8 / RANK**0.5
    assert scales["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"] == 3 / RANK**0.5


def test_a_changed_file_is_read_anew(tmp_path):
    path, _ = write_kohya(tmp_path / "lora")
    first = read_lora(path, TINY)
    assert read_lora(path, TINY) is first
    written(path, named(ATTN2_K))
    assert len(read_lora(path, TINY).pieces) == 1


def test_the_towers_last_layer_may_have_entries_for_it_is_never_used(folder, tmp_path):
    last = f"lora_te_text_model_encoder_layers_{TINY.text.layers - 1}_mlp_fc1"
    tensors = named(ATTN2_K) | {
        f"{last}.lora_up.weight": torch.zeros(1, 1),
        f"{last}.lora_down.weight": torch.zeros(1, 1),
    }
    assert len(read_lora(written(tmp_path / "lora.safetensors", tensors), TINY).pieces) == 1
