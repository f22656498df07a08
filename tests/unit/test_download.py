"""A download goes on after a cut, comes whole or not at all, and names what is wrong; over a hub on this machine."""

from __future__ import annotations

import os
import random
import shutil
import threading
from pathlib import Path

import pytest
from hub_server import Hub, serving

from t2v_core.errors import Cancelled, DownloadError, ModelNotFoundError, OutputError
from t2v_core.models import download as downloading
from t2v_core.models.catalogue import DEMO, find_all
from t2v_core.models.doctor import Severity, examine
from t2v_core.models.download import download
from t2v_core.models.downloadable import DOWNLOADS, find_download
from t2v_core.models.half_file import half_of, opened_alone
from t2v_core.models.hub import endpoint
from t2v_core.models.layouts import describe
from t2v_core.run import Progress, Run, Stage

T2V = DOWNLOADS[0]
UNET, TEXT, VQGAN = "text2video_pytorch_model.pth", "open_clip_pytorch_model.bin", "VQGAN_autoencoder.pth"


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


FILES = {
    "configuration.json": b'{"model": {}}',
    TEXT: content(1, 200_000),
    VQGAN: content(2, 300_001),
    UNET: content(3, 1_000_003),
    "README.md": b"not asked for",
}
WANTED = {name: data for name, data in FILES.items() if name != "README.md"}
SIZE = sum(map(len, WANTED.values()))


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(downloading, "PAUSES", (0.0, 0.0))
    with serving(Hub(T2V.repository, dict(FILES))) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield hub


@pytest.fixture
def events():
    return []


@pytest.fixture
def run(events):
    return Run(events.append)


def there(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "t2v").iterdir()}


def done(events) -> list[int]:
    return [event.done for event in events if isinstance(event, Progress)]


def test_all_files_come_whole_with_progress_in_bytes(hub, run, events, tmp_path):
    folder = tmp_path / "models" / "ModelScope"
    assert download(T2V, folder, run=run) == folder / "t2v"
    assert there(folder) == WANTED
    told = [event for event in events if isinstance(event, Progress)]
    assert {(event.stage, event.total, event.unit) for event in told} == {(Stage.DOWNLOADING, SIZE, "B")}
    assert done(events)[0] == 0
    assert done(events)[-1] == SIZE
    assert done(events) == sorted(done(events))
    assert "CC-BY-NC-4.0" in events[0].message


def test_no_token_leaves_the_machine(hub, run, tmp_path):
    download(T2V, tmp_path, run=run)
    assert {token for *_, token in hub.requests} == {""}


def test_what_is_whole_is_not_fetched_again(hub, run, events, tmp_path):
    download(T2V, tmp_path, run=run)
    (tmp_path / "t2v" / TEXT).unlink()
    hub.requests.clear()
    download(T2V, tmp_path, run=run)
    assert there(tmp_path) == WANTED
    assert [path for _, path, _, _ in hub.requests if path.startswith("/content/")] == [f"/content/{TEXT}"]
    assert done(events)[-1] == SIZE


def test_a_cut_connection_goes_on_where_it_was(hub, run, events, tmp_path):
    hub.cuts = [len(FILES[TEXT]), len(FILES[VQGAN]), 400_000, 300_000]
    download(T2V, tmp_path, run=run)
    assert there(tmp_path) == WANTED
    first, second, third = hub.gets(UNET)
    assert first == ""
    assert 0 < int(second[6:-1]) <= 400_000
    assert int(second[6:-1]) < int(third[6:-1]) <= 700_000
    assert done(events) == sorted(done(events))


def test_a_download_that_was_given_up_goes_on_at_the_next_start(hub, run, tmp_path):
    hub.cuts = [len(FILES[TEXT]), len(FILES[VQGAN]), 600_000, 0, 0, 0]
    with pytest.raises(DownloadError, match="was cut") as caught:
        download(T2V, tmp_path, run=run)
    assert "goes on from there" in caught.value.remedy
    assert UNET not in there(tmp_path)
    half = next(path for path in (tmp_path / "t2v").iterdir() if path.suffix == ".incomplete")
    assert 0 < half.stat().st_size <= 600_000
    hub.cuts, hub.requests = [], []
    download(T2V, tmp_path, run=run)
    assert there(tmp_path) == WANTED
    assert hub.gets(TEXT) == []
    assert hub.gets(UNET)[0].startswith("bytes=")


def test_a_server_without_ranges_sends_it_all_again(hub, run, tmp_path):
    hub.knows_ranges = False
    hub.cuts = [len(FILES[TEXT]), len(FILES[VQGAN]), 400_000]
    download(T2V, tmp_path, run=run)
    assert there(tmp_path) == WANTED


@pytest.mark.parametrize("name", [UNET, "configuration.json"])
def test_altered_bytes_never_get_the_files_name(name, hub, run, tmp_path):
    hub.sends[name] = bytes(len(FILES[name]))
    with pytest.raises(DownloadError, match=f"{name} isn't what the hub announced"):
        download(T2V, tmp_path, run=run)
    assert name not in there(tmp_path)
    assert not list((tmp_path / "t2v").glob(".*"))
    hub.sends.clear()
    download(T2V, tmp_path, run=run)
    assert there(tmp_path) == WANTED


def test_more_than_was_announced_is_not_kept(hub, run, tmp_path):
    hub.sends[UNET] = FILES[UNET] + b"more"
    with pytest.raises(DownloadError, match="isn't what"):
        download(T2V, tmp_path, run=run)
    assert UNET not in there(tmp_path)


def test_a_damaged_half_file_is_found_out_by_its_hash(hub, run, tmp_path):
    hub.cuts = [len(FILES[TEXT]), len(FILES[VQGAN]), 600_000, 0, 0, 0]
    with pytest.raises(DownloadError):
        download(T2V, tmp_path, run=run)
    half = next((tmp_path / "t2v").glob(".*.incomplete"))
    half.write_bytes(bytes(half.stat().st_size))
    hub.cuts = []
    with pytest.raises(DownloadError, match="isn't what"):
        download(T2V, tmp_path, run=run)
    download(T2V, tmp_path, run=run)
    assert there(tmp_path) == WANTED


def test_a_half_file_that_is_too_long_is_begun_anew(hub, run, tmp_path):
    import hashlib

    half = half_of(tmp_path / "t2v" / UNET, hashlib.sha256(FILES[UNET]).hexdigest())
    half.parent.mkdir()
    half.write_bytes(bytes(len(FILES[UNET]) + 5))
    download(T2V, tmp_path, run=run)
    assert there(tmp_path) == WANTED


@pytest.mark.parametrize("data", [b"mine", bytes(len(FILES[UNET]))], ids=["another size", "the same size"])
def test_another_file_in_the_way_stays(data, hub, run, tmp_path):
    (tmp_path / "t2v").mkdir()
    (tmp_path / "t2v" / UNET).write_bytes(data)
    with pytest.raises(OutputError, match="is another file"):
        download(T2V, tmp_path, run=run)
    assert there(tmp_path)[UNET] == data


def test_a_disk_without_room_is_refused_with_the_figures_before_anything_comes(hub, run, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda path: usage._replace(free=SIZE - 1))
    with pytest.raises(OutputError, match=r"0\.00 GB are still to be downloaded"):
        download(T2V, tmp_path, run=run)
    assert not (tmp_path / "t2v").exists()
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda path: usage._replace(free=SIZE))
    download(T2V, tmp_path, run=run)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_disk_that_fills_up_is_named(hub, run, tmp_path, monkeypatch):
    (tmp_path / "t2v").mkdir()
    half = tmp_path / "t2v" / "full"
    half.symlink_to("/dev/full")
    monkeypatch.setattr(downloading, "half_of", lambda path, digest: half)
    monkeypatch.setattr(downloading, "_feed", lambda *ignored, meter: None)
    with pytest.raises(OutputError, match="is full") as caught:
        download(T2V, tmp_path, run=run)
    assert "what has come is kept" in caught.value.remedy


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a folder that can't be written")
def test_a_folder_that_cannot_be_written_is_named(hub, run, tmp_path):
    (tmp_path / "t2v").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="can be written"):
        download(T2V, tmp_path, run=run)


def test_a_file_in_place_of_the_folder_is_named(hub, run, tmp_path):
    (tmp_path / "t2v").write_text("x")
    with pytest.raises(OutputError, match="Nothing can be written"):
        download(T2V, tmp_path, run=run)


def test_a_stop_keeps_the_half_and_the_next_start_goes_on(hub, events, tmp_path):
    hub.pause = 0.02
    run = Run(events.append)
    run.listen(lambda event: run.interrupt() if getattr(event, "done", 0) > 700_000 else None)
    with pytest.raises(Cancelled):
        download(T2V, tmp_path, run=run)
    assert UNET not in there(tmp_path)
    assert len(list((tmp_path / "t2v").glob(".*.incomplete"))) == 1
    hub.pause = 0.0
    download(T2V, tmp_path, run=Run(events.append))
    assert there(tmp_path) == WANTED
    assert hub.gets(UNET)[-1].startswith("bytes=")


def test_a_stop_is_noticed_while_waiting_for_a_lost_hub(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(downloading, "PAUSES", (60.0,))
    hub.cuts = [0]
    run = Run()
    timer = threading.Timer(0.3, run.interrupt)
    timer.start()
    with pytest.raises(Cancelled):
        download(T2V, tmp_path, run=run)
    timer.join()


def test_two_downloads_of_one_file_do_not_mix(hub, run, tmp_path):
    import hashlib

    half = half_of(tmp_path / "t2v" / TEXT, hashlib.sha256(FILES[TEXT]).hexdigest())
    with opened_alone(half), pytest.raises(DownloadError, match="already"):
        download(T2V, tmp_path, run=run)
    download(T2V, tmp_path, run=run)
    assert there(tmp_path) == WANTED


@pytest.mark.parametrize(
    ("status", "said"),
    [(404, "404"), (401, "401"), (403, "403"), (500, "can't be reached"), (429, "can't be reached"), (400, "400")],
)
def test_what_the_hub_refuses_is_told_with_a_remedy(status, said, hub, run, tmp_path):
    hub.status = status
    with pytest.raises(DownloadError, match=said) as caught:
        download(T2V, tmp_path, run=run)
    assert caught.value.remedy
    assert not (tmp_path / "t2v").exists()


def test_without_a_network_the_remedies_are_named(hub, run, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="can't be reached") as caught:
        download(T2V, tmp_path, run=run)
    assert "HF_ENDPOINT" in caught.value.remedy


@pytest.mark.parametrize("address", ["file:///etc/passwd", "example.com", "https://", "ftp://x", "https://x/?a=b"])
def test_an_endpoint_that_is_no_web_address_is_refused(address, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(DownloadError, match="HF_ENDPOINT"):
        endpoint()


def test_the_endpoint_is_the_hubs_own_unless_a_mirror_is_named(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert endpoint() == "https://huggingface.co"
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/hf/")
    assert endpoint() == "https://mirror.example/hf"


def test_a_file_that_is_not_published_any_more_is_named_and_an_optional_one_left_out(hub, run, tmp_path):
    del hub.files["configuration.json"]
    download(T2V, tmp_path, run=run)
    assert "configuration.json" not in there(tmp_path)
    del hub.files[VQGAN]
    with pytest.raises(DownloadError, match=VQGAN):
        download(T2V, tmp_path / "other", run=run)


def test_a_diffusers_folder_comes_in_the_smaller_version_with_its_subfolders(hub, run, tmp_path):
    row = find_download("ZEROSCOPE_v2_576w")
    hub.repository = row.repository
    small = ["model_index.json", "text_encoder/config.json", "vae/config.json", "unet/config.json"]
    large = ["text_encoder/pytorch_model.bin", "vae/diffusion_pytorch_model.safetensors"]
    unets = ["unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors"]
    hub.files = {name: name.encode() for name in (*small, *large, *unets)}
    target = download(row, tmp_path, run=run)
    came = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert came == {*small, *large, unets[1]}


def test_a_half_download_is_no_riddle_for_the_doctor(hub, run, tmp_path):
    hub.cuts = [0, 0, 0]
    with pytest.raises(DownloadError):
        download(T2V, tmp_path, run=run)
    findings = examine(describe(tmp_path / "t2v")).findings
    about = [finding.what for finding in findings if finding.severity is Severity.ERROR]
    assert any("a download that hasn't finished" in what for what in about)


def test_every_row_names_a_model_that_is_then_known():
    assert len({row.name for row in DOWNLOADS}) == len(DOWNLOADS)
    for row in DOWNLOADS:
        folder = describe(Path("nowhere") / row.name)
        assert folder.known is not None
        assert folder.known.defaults == row.known.defaults
        assert all("\\" not in name and ".." not in name for piece in row.pieces for name in piece.names)
    assert T2V.gigabytes == pytest.approx(7.40)
    with pytest.raises(ModelNotFoundError, match="There are: t2v"):
        find_download("../../etc")


def test_the_catalogue_lists_what_was_downloaded(hub, run, tmp_path):
    assert [model.name for model in find_all([tmp_path])] == [DEMO]
    download(T2V, tmp_path, run=run)
    assert [model.name for model in find_all([tmp_path])] == ["t2v", DEMO]
