"""Prompts that were encoded before need no text tower, and give the same features to the bit."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
import torch

from t2v_core.models.catalogue import DEMO
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.rendering import part_loading
from t2v_core.rendering.local import LocalRenderer
from t2v_core.rendering.plan import Rest
from t2v_core.rendering.prompt_cache import PromptCache, TextKey
from t2v_core.request import GenerationRequest
from t2v_core.run import Run

REQUEST = GenerationRequest(
    prompt="a red ball", negative_prompt="blue", model=DEMO, seed=3, steps=1, frames=2, width=64, height=64,
    precision="fp32",
)  # fmt: skip


@pytest.fixture
def loads(monkeypatch, tmp_path):
    """The parts that are loaded, in order."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    parts, load = [], part_loading.load_part

    def watched(folder, part, **options):
        parts.append(part)
        return load(folder, part, **options)

    monkeypatch.setattr(part_loading, "load_part", watched)
    return parts


def make(renderer, **changes):
    request = dataclasses.replace(REQUEST, **changes)
    with renderer.session():
        return renderer.render(renderer.resolve(request), Run()).frames


def test_the_second_run_with_the_same_words_does_not_load_the_text_tower(host, loads):
    renderer = LocalRenderer(host, rest=lambda: Rest.NOWHERE)
    first = make(renderer)
    assert loads.count(Part.TEXT) == 1
    assert np.array_equal(make(renderer), first)
    assert loads.count(Part.TEXT) == 1
    assert loads.count(Part.UNET) == 2


@pytest.mark.parametrize(
    "changes", [{"prompt": "a blue ball"}, {"negative_prompt": "red"}, {"precision": "bf16"}], ids=str
)
def test_what_the_features_depend_on_is_not_mixed_up(host, loads, changes):
    renderer = LocalRenderer(host, rest=lambda: Rest.NOWHERE)
    make(renderer)
    found = make(renderer, **changes)
    assert loads.count(Part.TEXT) == 2
    assert np.array_equal(found, make(LocalRenderer(host), **changes))


def test_a_file_that_was_replaced_is_another_tower(tmp_path):
    path = tmp_path / "tower.bin"
    path.write_bytes(b"1234")
    before = TextKey.of(path, tower="fp32", tokens=[[1, 2]])
    assert before == TextKey.of(path, tower="fp32", tokens=[[1, 2]])
    os.utime(path, ns=(1, 1))
    assert before != TextKey.of(path, tower="fp32", tokens=[[1, 2]])
    assert before != TextKey.of(path, tower="fp16", tokens=[[1, 2]])


def test_the_prompts_used_longest_ago_are_forgotten(tmp_path):
    path = tmp_path / "tower.bin"
    path.write_bytes(b"")
    keys = [TextKey.of(path, tower="", tokens=[[number]]) for number in range(4)]
    cache = PromptCache(most=3)
    for key in keys[:3]:
        cache.keep(key, torch.ones(2, 3))
    cache.find(keys[0])
    cache.keep(keys[3], torch.ones(2, 3))
    assert [cache.find(key) is not None for key in keys] == [True, False, True, True]


def test_what_is_kept_is_a_copy_that_can_be_used_anywhere(tmp_path):
    path = tmp_path / "tower.bin"
    path.write_bytes(b"")
    key, cache = TextKey.of(path, tower="", tokens=[[1]]), PromptCache()
    with torch.inference_mode():
        features = torch.ones(2, 3)
        cache.keep(key, features)
        features.zero_()
    found = cache.find(key)
    assert not found.is_inference()
    assert torch.equal(found, torch.ones(2, 3))
