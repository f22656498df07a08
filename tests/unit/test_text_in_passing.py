"""A text tower that is read layer by layer says the same as one that is there, and takes less memory."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from lora_files import random_pair
from model_layouts import LAYOUTS, TINY, random_states
from safetensors.torch import save_file

from t2v_core.errors import Cancelled
from t2v_core.models.catalogue import describe
from t2v_core.models.loading import build, load_part
from t2v_core.models.lora.applied import AppliedLoras, Dose
from t2v_core.models.lora.file import read_lora
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.rendering.footprint import ClipShape, Footprint
from t2v_core.rendering.measures import RUNGS, find_rung, rungs_for
from t2v_core.rendering.number_formats import NumberFormat
from t2v_core.rendering.text_in_passing import bytes_in_passing, encoded_in_passing, is_read_in_passing
from t2v_core.rendering.upcast import widen_on_use

DEEP = dataclasses.replace(TINY, text=dataclasses.replace(TINY.text, layers=13))
"""With layers whose numbers have one figure and two."""

FORMATS = {
    "fp32": NumberFormat("fp32", torch.float32, torch.float32),
    "bf16": NumberFormat("bf16", torch.bfloat16, torch.bfloat16),
    "bf16, widened": NumberFormat("bf16", torch.bfloat16, torch.float32),
    "fp16, widened": NumberFormat("fp16", torch.float16, torch.float32),
}
PROMPTS = [torch.arange(77)[None], torch.arange(154).view(2, 77) % TINY.text.vocab_size]


def there(folder, numbers, *doses):
    """What a tower that is there as a whole says."""
    tower = load_part(folder, Part.TEXT, dtype=numbers.stored)
    wearing(folder, *doses).update(Part.TEXT, tower)
    if numbers.is_widened:
        widen_on_use(tower, numbers.computes)
    with torch.inference_mode():
        return [tower(prompt) for prompt in PROMPTS]


def in_passing(folder, numbers, *doses, progress=lambda done, total: None):
    with torch.inference_mode():
        return encoded_in_passing(
            folder, PROMPTS, numbers=numbers, changed=wearing(folder, *doses).adder(Part.TEXT), progress=progress
        )


def wearing(folder, *doses):
    applied = AppliedLoras(folder)
    applied.wanted = doses
    return applied


def write(folder, layout="original", *, config=DEEP, dtype=torch.float32):
    states = {part: {k: v * 3 for k, v in state.items()} for part, state in random_states(config, dtype=dtype).items()}
    LAYOUTS[layout](folder, config, states)
    return describe(folder)


@pytest.mark.parametrize("numbers", FORMATS)
@pytest.mark.parametrize("stored", [torch.float16, torch.float32], ids=str)
def test_it_says_the_same_to_the_bit(tmp_path, numbers, stored):
    folder = write(tmp_path / "model", dtype=stored)
    found, expected = (encode(folder, FORMATS[numbers]) for encode in (in_passing, there))
    assert [each.dtype for each in found] == [FORMATS[numbers].computes] * 2
    assert all(map(torch.equal, found, expected))
    assert found[0].std() > 0.1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_says_the_same_from_every_layout(tmp_path, layout):
    folder = write(tmp_path / "model", layout, config=TINY)
    if folder.problems:
        pytest.skip("a model that borrows its text tower is whole only beside its lender")
    numbers = FORMATS["fp32"]
    assert all(map(torch.equal, in_passing(folder, numbers), there(folder, numbers)))


def test_loras_of_the_embedding_and_of_single_layers_are_in_it(tmp_path):
    folder, width, plain = write(tmp_path / "model"), TINY.text.width, FORMATS["bf16"]
    down, up = torch.randn(3, TINY.text.vocab_size), torch.randn(width, 3)
    tensors = {"text_model.embeddings.token_embedding.lora_A": down, "text_model.embeddings.token_embedding.lora_B": up}
    for number in (1, 11):
        up, down = random_pair((4 * width, width), seed=number)
        layer = f"lora_te_text_model_encoder_layers_{number}_mlp_fc1"
        tensors |= {f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down}
    written = {"embedding": {}, "layers": {}}
    for name, tensor in tensors.items():
        written["layers" if "layers" in name else "embedding"][name] = tensor
    doses = []
    for name, some in written.items():
        save_file({key: value.contiguous() for key, value in some.items()}, tmp_path / f"{name}.safetensors")
        doses.append(Dose(read_lora(tmp_path / f"{name}.safetensors", DEEP), 0.5))
    without = in_passing(folder, plain)
    for some in (doses[:1], doses[1:], doses):
        found = in_passing(folder, plain, *some)
        assert all(map(torch.equal, found, there(folder, plain, *some)))
        assert not torch.equal(found[0], without[0])


def test_every_byte_is_read_once_and_told_and_a_stop_is_heard_between_them(tmp_path):
    folder, told = write(tmp_path / "model", dtype=torch.float16), []
    in_passing(folder, FORMATS["bf16"], progress=lambda done, total: told.append((done, total)))
    tower = build(Part.TEXT, DEEP)
    expected = 2 * sum(weight.numel() for weight in tower.parameters())
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert (told[0], told[-1]) == ((0, expected), (expected, expected))

    def stop(done, total):
        if done > total / 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        in_passing(folder, FORMATS["bf16"], progress=stop)


def test_a_processor_that_lets_the_tower_go_reads_it_in_passing_and_nobody_else_does():
    assert [is_read_in_passing(rung, device="cpu") for rung in rungs_for("cpu")] == [False, True, True, True, True]
    assert not any(is_read_in_passing(rung, device=device) for rung in RUNGS for device in ("cuda:0", "mps"))


@pytest.mark.parametrize("numbers", FORMATS)
def test_the_published_tower_takes_a_fraction_of_its_memory(numbers):
    numbers = FORMATS[numbers]
    tower = build(Part.TEXT, ModelConfig()).to(numbers.stored)
    whole = sum(weight.numel() for weight in tower.parameters()) * numbers.computes.itemsize
    taken = bytes_in_passing(tower.state_dict(), numbers=numbers)
    embedding = tower.token_embedding.weight.numel()
    assert embedding * numbers.computes.itemsize < taken < whole / 4
    assert (taken < whole / 6) == (not numbers.is_widened)


def test_the_plan_counts_it_so_where_it_is_not_loaded():
    clip, numbers = ClipShape(16, 32, 32, guided=True), FORMATS["fp32"]
    prediction = Footprint(ModelConfig(), dict.fromkeys(Part, numbers), device="cpu")
    rung, others = find_rung("text", device="cpu"), (Part.UNET, Part.AUTOENCODER)
    later, kept = (prediction._resident(Part.TEXT, clip, rung, loaded) for loaded in (others, tuple(Part)))
    assert kept - later > 0.8 * prediction.weights(Part.TEXT)
    first, again = (prediction.peak(clip, rung, chunk=1, loaded=loaded) for loaded in ((), others))
    assert first == again, "a later prompt raises no peak"
