"""The first start makes a folder that explains itself and isn't taken for a model."""

from __future__ import annotations

import logging
import os

import pytest

from t2v_core.models.catalogue import DEMO, find_all
from t2v_core.models.doctor import examine
from t2v_core.models.first_start import prepare, readme
from t2v_core.models.layouts import describe

README = "readme.txt"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models" / "ModelScope" / "t2v"


def test_the_folder_is_there_afterwards_and_says_what_goes_into_it(folder):
    prepare(folder.parents[1])
    assert [entry.name for entry in folder.iterdir()] == [README]
    text = (folder / README).read_text(encoding="ascii")  # for any editor
    assert text == readme()
    for word in (
        "text2video_pytorch_model.pth",
        "2.82 GB",
        "VQGAN_autoencoder.pth",
        "CC-BY-NC-4.0",
        "demo",
        "https://",
    ):
        assert word in text
    assert max(map(len, text.splitlines())) <= 120


def test_it_is_no_model_until_something_is_put_there(folder):
    prepare(folder.parents[1])
    assert [model.name for model in find_all([folder.parent])] == [DEMO]
    (folder / "VQGAN_autoencoder.pth").write_bytes(b"")
    assert [model.name for model in find_all([folder.parent])] == ["t2v", DEMO]


def test_the_doctor_has_nothing_to_say_about_the_readme(folder):
    prepare(folder.parents[1])
    assert not any(finding.file.name == README for finding in examine(describe(folder)).findings)


def test_nothing_is_overwritten_and_nothing_put_beside_weights(folder):
    prepare(folder.parents[1])
    (folder / README).write_text("mine")
    prepare(folder.parents[1])
    assert (folder / README).read_text() == "mine"
    (folder / README).rename(folder / "text2video_pytorch_model.pth")
    prepare(folder.parents[1])
    assert not (folder / README).exists()


@pytest.mark.parametrize("in_the_way", ["models", "models/ModelScope", "models/ModelScope/t2v"])
def test_a_file_in_the_way_is_no_error(in_the_way, folder, tmp_path):
    (tmp_path / in_the_way).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / in_the_way).write_text("x")
    prepare(folder.parents[1])
    assert (tmp_path / in_the_way).read_text() == "x"


def test_a_disk_that_cannot_be_written_is_logged(folder, monkeypatch, caplog):
    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "mkdir", refuse)
    with caplog.at_level(logging.WARNING):
        prepare(folder.parents[1])
    assert "Read-only file system" in caplog.text
