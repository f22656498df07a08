"""Our text tower gives what transformers' and OpenCLIP's own give at the last layer but one, with the same weights."""

from __future__ import annotations

import functools
import inspect

import open_clip_oracle
import pytest
import torch
from random_weights import Distance, build, distance, fill, fill_through_map, random_tensor, shapes
from torch import Tensor, nn

from t2v_core.models.modelscope.checkpoint import Part, spellings
from t2v_core.models.modelscope.config import ModelConfig, TextConfig
from t2v_core.models.modelscope.text_encoder import TextEncoder
from t2v_core.models.modelscope.tokenizer import count_tokens, tokenize

LARGEST_ERROR = 1e-5
PUBLISHED = TextConfig()
CONFIGS = {
    "small": TextConfig(width=64, layers=5, heads=4),
    "one layer in use": TextConfig(width=48, layers=2, heads=1),
}
PROMPTS = {
    "empty": "",
    "short": "a red ball moving left on a black background",
    "77 tokens": "cat " * 75,
    "200 tokens": "cat, " * 100,
}
CHUNKS = {"empty": 1, "short": 1, "77 tokens": 1, "200 tokens": 3}


def named(configs: dict[str, TextConfig]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("config", list(configs.values()), ids=list(configs))


prompts = pytest.mark.parametrize("prompt", PROMPTS)


def tokens(prompt: str) -> Tensor:
    """(chunks, 77)."""
    return torch.tensor(tokenize(PROMPTS[prompt]))


@functools.cache
def ours(config: TextConfig) -> nn.Module:
    return fill(build(lambda: TextEncoder(config)))


@functools.cache
def transformers_(config: TextConfig) -> nn.Module:
    """Transformers' tower, built without the last layer."""
    library = pytest.importorskip("transformers", minversion="4.31")  # before, positions are among the weights
    sizes = library.CLIPTextConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.width,
        intermediate_size=4 * config.width,
        num_hidden_layers=config.layers - 1,
        num_attention_heads=config.heads,
        max_position_embeddings=config.context_length,
        hidden_act="gelu",
        projection_dim=config.width,
    )
    tower = library.CLIPTextModel(sizes).eval().requires_grad_(False)
    # Transformers 4 puts all of it under one more name.
    prefix = "text_model." if any(name.startswith("text_model.") for name in shapes(tower)) else ""
    rows = {spelling.name: spelling for spelling in spellings(Part.TEXT, ModelConfig(text=config))}
    names = shapes(build(lambda: TextEncoder(config)))
    return fill_through_map(
        tower, names, lambda name: tuple(prefix + source for source in rows["transformers"].sources(name))
    )


@functools.cache
def open_clips(config: TextConfig) -> nn.Module:
    """OpenCLIP's tower with the last layer and the projection, which get weights too and must not matter."""
    kind = open_clip_oracle.load("transformer").TextTransformer
    known = inspect.signature(kind).parameters
    sizes = {
        "context_length": config.context_length,
        "vocab_size": config.vocab_size,
        "width": config.width,
        "heads": config.heads,
        "layers": config.layers,
        "output_dim": config.width,
    }
    assert sizes.keys() <= known.keys()
    tower = kind(**sizes).eval().requires_grad_(False)
    weights = {name: random_tensor(name, shape) for name, shape in shapes(tower).items()}
    tower.load_state_dict(weights, strict=True, assign=True)
    return tower


def penultimate(tower: nn.Module, ids: Tensor) -> Tensor:
    """What ModelScope takes from OpenCLIP's tower: the output of the last layer but one, through the final norm."""
    seen: list[Tensor] = []
    layer = tower.transformer.resblocks[-2]  # type: ignore[union-attr, index]
    hook = layer.register_forward_hook(lambda _layer, _inputs, output: seen.append(output))
    tower(ids)
    hook.remove()
    # OpenCLIP 2 runs its layers with the tokens first.
    batch_first = seen[0].shape[0] == len(ids)
    return tower.ln_final(seen[0] if batch_first else seen[0].transpose(0, 1))  # type: ignore[operator]


@pytest.mark.parametrize(("prompt", "chunks"), CHUNKS.items())
def test_prompts_are_what_their_names_say(prompt: str, chunks: int) -> None:
    ids = tokens(prompt)
    assert ids.shape == (chunks, 77)
    assert count_tokens(PROMPTS[prompt]) == {"empty": 0, "short": 9, "77 tokens": 75, "200 tokens": 200}[prompt]


@prompts
@named(CONFIGS)
def test_agrees_with_transformers(config: TextConfig, prompt: str) -> None:
    ids = tokens(prompt)
    assert distance(ours(config)(ids), transformers_(config)(ids).last_hidden_state).worst <= LARGEST_ERROR


@prompts
@named(CONFIGS)
def test_agrees_with_open_clip(config: TextConfig, prompt: str) -> None:
    ids = tokens(prompt)
    assert distance(ours(config)(ids), penultimate(open_clips(config), ids)).worst <= LARGEST_ERROR


def test_a_token_changes_only_itself_and_what_follows() -> None:
    network, ids = ours(CONFIGS["small"]), tokens("short")
    changed = ids.clone()
    changed[0, 4] = 1
    gaps = (network(ids) - network(changed)).abs().amax(dim=(0, 2))
    assert (gaps[:4] == 0).all()
    assert (gaps[4:] > 1e-4).all()


def test_published_size_has_the_published_tensors_but_the_unused() -> None:
    """The file's 294 tensors and 354,032,641 numbers, less its last layer, its projection and its logit scale."""
    sizes = shapes(build(lambda: TextEncoder(PUBLISHED)))
    counts = {name: torch.Size(shape).numel() for name, shape in sizes.items()}
    layer = [count for name, count in counts.items() if name.startswith("transformer.resblocks.22.")]
    assert len(counts) == 294 - len(layer) - 2
    assert sum(counts.values()) == 354_032_641 - sum(layer) - PUBLISHED.width**2 - 1


def test_published_names_and_shapes_are_open_clips() -> None:
    kind = open_clip_oracle.load("transformer").TextTransformer
    theirs = shapes(build(lambda: kind(77, 49408, 1024, 16, 24, output_dim=1024)))
    unused = {name for name in theirs if name.startswith("transformer.resblocks.23.")} | {"text_projection"}
    assert shapes(build(lambda: TextEncoder(PUBLISHED))) == {
        name: shape for name, shape in theirs.items() if name not in unused
    }


@pytest.mark.full_size
@pytest.mark.timeout(7200)
def test_full_size_agrees_with_transformers() -> None:
    ids = torch.cat([tokens(prompt) for prompt in PROMPTS])
    network = fill(build(lambda: TextEncoder(PUBLISHED)))
    result = network(ids)
    del network
    found: Distance = distance(result, transformers_.__wrapped__(PUBLISHED)(ids).last_hidden_state)
    print(f"\n{found}")
    assert found.worst <= LARGEST_ERROR
