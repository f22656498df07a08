"""Models are listed in a fixed order, found by name or folder, and identified by their hash."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from model_layouts import TINY, random_states, write_configuration, write_diffusers_sharded

from t2v_core.errors import ModelNotFoundError, WeightsError
from t2v_core.models.catalogue import DEMO, find_all, find_model
from t2v_core.models.hashing import model_hash
from t2v_core.models.known import KNOWN, recognise_folder
from t2v_core.models.layouts import describe


@pytest.fixture
def folders(tmp_path):
    first, second = tmp_path / "models" / "ModelScope", tmp_path / "models" / "text2video"
    for folder in (first / "animov-512x", first / "t2v", second / "zeroscope_v2_576w" / "zs2_576w", second / "potat1"):
        write_configuration(folder, TINY)
    (first / "notes").mkdir()
    (second / "stray.txt").write_text("x")
    return first, second


def test_models_are_listed_t2v_first_and_the_demo_last(folders):
    assert [model.name for model in find_all(folders)] == [
        "t2v",
        "animov-512x",
        "potat1",
        "zeroscope_v2_576w/zs2_576w",
        DEMO,
    ]


def test_an_empty_folder_is_no_model(tmp_path):
    (tmp_path / "t2v").mkdir()
    assert [model.name for model in find_all([tmp_path])] == [DEMO]
    (tmp_path / "t2v" / "VQGAN_autoencoder.pth").write_bytes(b"")
    assert [model.name for model in find_all([tmp_path])] == ["t2v", DEMO]


def test_the_demo_is_there_without_any_folder(tmp_path):
    assert [model.name for model in find_all([tmp_path / "nowhere"])] == [DEMO]
    assert find_model("", []).name == DEMO


@pytest.mark.parametrize(
    ("asked", "found"),
    [("", "t2v"), ("T2V", "t2v"), ("zs2_576w", "zeroscope_v2_576w/zs2_576w"), ("demo", "demo"), ("potat1", "potat1")],
)
def test_a_model_is_found_by_its_name(asked, found, folders):
    assert find_model(asked, folders).name == found


def test_a_model_is_found_by_its_folder_or_a_file_in_it(folders, tmp_path):
    inside = folders[0] / "t2v"
    assert find_model(str(inside), folders).name == "t2v"
    assert find_model(str(inside / "configuration.json"), folders).folder == inside
    write_configuration(tmp_path / "elsewhere", TINY)
    assert find_model(str(tmp_path / "elsewhere"), folders).folder == tmp_path / "elsewhere"


def test_a_strangers_name_is_no_path(folders):
    with pytest.raises(ModelNotFoundError):
        find_model(str(folders[0] / "t2v"), folders, paths=False)


@pytest.mark.parametrize("name", ["nothing", "t2v/..", "~nobody/x", "a\0b", "x" * 5000])
def test_an_unknown_model_is_answered_with_what_there_is(name, folders):
    with pytest.raises(ModelNotFoundError, match="There are: t2v, animov-512x, potat1") as caught:
        find_model(name, folders, paths=name != "t2v/..")
    assert str(folders[0]) in caught.value.remedy


@pytest.mark.parametrize(
    ("folder", "size"),
    [
        ("t2v", (256, 256, 16)),
        ("modelscope-damo-text2video-pruned-weights", (256, 256, 16)),
        ("text-to-video-ms-1.7b", (256, 256, 16)),
        ("zeroscope_v2_576w", (576, 320, 24)),
        ("zs2_576w", (576, 320, 24)),
        ("zeroscope_v2_XL", (1024, 576, 24)),
        ("zs2_XL", (1024, 576, 24)),
        ("zeroscope_v2_dark_30x448x256", (448, 256, 30)),
        ("potat1", (1024, 576, 24)),
    ],
)
def test_published_checkpoints_are_known_by_their_folder_and_bring_their_size(folder, size, tmp_path):
    (tmp_path / folder).mkdir()
    model = describe(tmp_path / folder)
    assert model.known is not None
    defaults = model.config.defaults
    assert (defaults.width, defaults.height, defaults.frames) == size


def test_a_configurations_own_defaults_win(tmp_path):
    write_configuration(tmp_path / "zeroscope_v2_XL", TINY)
    assert describe(tmp_path / "zeroscope_v2_XL").config.defaults == TINY.defaults


def test_known_checkpoints_name_their_licence_and_source():
    for known in KNOWN:
        assert "CC-BY-NC-4.0" in known.licence
        assert known.source.startswith("huggingface.co/")
    assert recognise_folder("something of mine") is None


def test_the_hash_is_the_webuis_and_is_remembered(tmp_path, monkeypatch):
    write_configuration(tmp_path / "t2v", TINY)
    torch.save({"weight": torch.zeros(9)}, tmp_path / "t2v" / "text2video_pytorch_model.pth")
    model, cache, seen = describe(tmp_path / "t2v"), tmp_path / "cache" / "hashes.json", []
    expected = hashlib.sha256((tmp_path / "t2v" / "text2video_pytorch_model.pth").read_bytes()).hexdigest()[:10]
    assert model_hash(model, cache_file=cache, progress=lambda done, total: seen.append((done, total))) == expected
    assert seen[-1][0] == seen[-1][1] > 0
    seen.clear()
    assert model_hash(model, cache_file=cache, progress=lambda done, total: seen.append((done, total))) == expected
    assert not seen
    assert list(cache.parent.iterdir()) == [cache]


def test_a_changed_file_gets_another_hash(tmp_path):
    write_configuration(tmp_path / "t2v", TINY)
    torch.save({"weight": torch.zeros(9)}, tmp_path / "t2v" / "text2video_pytorch_model.pth")
    model, cache = describe(tmp_path / "t2v"), tmp_path / "hashes.json"
    before = model_hash(model, cache_file=cache)
    torch.save({"a": torch.zeros(3)}, tmp_path / "t2v" / "text2video_pytorch_model.pth")
    assert model_hash(model, cache_file=cache) != before


def test_shards_are_hashed_together(tmp_path):
    write_diffusers_sharded(tmp_path / "m", TINY, random_states())
    shards = sorted((tmp_path / "m" / "unet").glob("*.safetensors"))
    expected = hashlib.sha256(b"".join(path.read_bytes() for path in shards)).hexdigest()[:10]
    assert model_hash(describe(tmp_path / "m"), cache_file=tmp_path / "hashes.json") == expected


@pytest.mark.parametrize("content", [b"", b"[]", b"{", json.dumps({"x": 1}).encode()])
def test_a_broken_cache_is_no_error(content, tmp_path):
    write_configuration(tmp_path / "t2v", TINY)
    torch.save({"weight": torch.zeros(9)}, tmp_path / "t2v" / "text2video_pytorch_model.pth")
    cache = tmp_path / "hashes.json"
    cache.write_bytes(content)
    assert len(model_hash(describe(tmp_path / "t2v"), cache_file=cache)) == 10


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path):
    write_configuration(tmp_path / "t2v", TINY)
    torch.save({"weight": torch.zeros(9)}, tmp_path / "t2v" / "text2video_pytorch_model.pth")
    (tmp_path / "file").write_text("x")
    assert len(model_hash(describe(tmp_path / "t2v"), cache_file=tmp_path / "file" / "hashes.json")) == 10


def test_a_missing_file_has_no_hash(tmp_path):
    with pytest.raises(WeightsError, match="is missing"):
        model_hash(describe(tmp_path), cache_file=tmp_path / "hashes.json")
