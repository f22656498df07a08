"""What the tab shows until the weights are there, and downloads that outlive the page that began them."""

from __future__ import annotations

import threading

import pytest
from model_layouts import TINY, random_states, write_original

from t2v_core.errors import DownloadError, ModelNotFoundError
from t2v_core.frontends.tab import first_run
from t2v_core.frontends.tab.first_run import Downloader, findings, needed
from t2v_core.models import download
from t2v_core.models.downloadable import DOWNLOADS
from t2v_core.run import Progress, Stage

NAME = DOWNLOADS[0].name


@pytest.fixture
def folders(tmp_path):
    folder = tmp_path / "ModelScope"
    folder.mkdir()
    return (folder,)


def finish(downloader):
    downloader._thread.join(timeout=10)
    assert not downloader.is_running


def test_the_panel_is_needed_until_another_model_can_be_used(folders):
    assert needed(folders)
    folder = folders[0] / "t2v"
    write_original(folder, TINY, random_states(TINY))
    assert not needed(folders)
    assert findings(folders) == ""
    next(folder.glob("*clip*")).unlink()
    assert needed(folders)
    assert "open_clip_pytorch_model" in findings(folders)


def test_what_the_doctor_finds_stands_in_the_page_escaped(folders):
    folder = folders[0] / "<t2v>"
    write_original(folder, TINY, random_states(TINY))
    for path in folder.glob("*.pth"):
        path.write_text("<!DOCTYPE html><html>not found</html>")
    told = findings(folders)
    assert "&lt;t2v&gt;" in told
    assert "<t2v>" not in told
    assert "VQGAN_autoencoder.pth" in told


def test_a_download_tells_how_far_it_is_and_where_it_ended(folders, monkeypatch):
    half, go_on = threading.Event(), threading.Event()

    def fetch(checkpoint, folder, *, run):
        run.report(Progress(Stage.DOWNLOADING, 1_000_000_000, 4_000_000_000, "B"))
        half.set()
        assert go_on.wait(10)
        return folder / checkpoint.name

    monkeypatch.setattr(download, "download", fetch)
    downloader = Downloader()
    assert downloader.status() == ""
    downloader.begin(NAME, folders[0])
    assert half.wait(10)
    assert "1.0 GB of 4.0 GB" in downloader.status()
    assert 'aria-valuenow="25%"' in downloader.status()
    downloader.begin(NAME, folders[0])  # a second press changes nothing
    go_on.set()
    finish(downloader)
    assert str(folders[0] / NAME) in downloader.status()


def test_a_stopped_download_says_that_it_goes_on_later(folders, monkeypatch):
    began = threading.Event()

    def fetch(checkpoint, folder, *, run):
        began.set()
        while True:
            run.raise_if_stopped()
            threading.Event().wait(0.01)

    monkeypatch.setattr(download, "download", fetch)
    downloader = Downloader()
    downloader.begin(NAME, folders[0])
    assert began.wait(10)
    downloader.stop()
    finish(downloader)
    assert "goes on there" in downloader.status()


@pytest.mark.parametrize(
    ("error", "words"),
    [(DownloadError("No network.", remedy="Connect."), "Connect."), (KeyError("x"), "Copy report")],
)
def test_what_goes_wrong_stands_in_the_page(folders, monkeypatch, error, words):
    def fetch(checkpoint, folder, *, run):
        raise error

    monkeypatch.setattr(download, "download", fetch)
    downloader = Downloader()
    downloader.begin(NAME, folders[0])
    finish(downloader)
    assert words in downloader.status()


def test_only_what_the_table_names_can_be_downloaded(folders):
    with pytest.raises(ModelNotFoundError):
        Downloader().begin("../../somebody/else", folders[0])


def test_the_page_names_size_licence_and_folder_of_each_download():
    table = first_run._table()
    for checkpoint in DOWNLOADS:
        assert checkpoint.size in table
        assert f"models/ModelScope/{checkpoint.name}" in table
    assert "CC-BY-NC-4.0" in table
