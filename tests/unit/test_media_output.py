from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2v_core.errors import OutputError
from t2v_core.media import WRITERS, Encoding, temporary
from t2v_core.media.naming import numbered_names
from t2v_core.media.output import check_output_folder, estimated_bytes, save
from t2v_core.media.problems import encoder_failed, output_error
from t2v_core.media.reading import probe
from t2v_core.media.temporary import publish, remove_abandoned, temporary_file

SIZE = Encoding(width=32, height=16, fps=8, preset="ultrafast")
FRAME = np.zeros((1, 16, 32, 3), np.uint8)
ROOT = os.name != "nt" and os.geteuid() == 0

HAS_NAMELESS = sys.platform == "linux"

needs_posix = pytest.mark.skipif(os.name == "nt", reason="signals and modes of POSIX")


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def saving(folder: Path, body: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """A process of its own that runs `body`, with a `saved(chunks)` to save into the folder; each line is flushed."""
    code = f"""
        import functools, itertools, sys, time
        from pathlib import Path
        import numpy as np
        from t2v_core.media import WRITERS, Encoding
        from t2v_core.media.naming import numbered_names
        from t2v_core.media.output import save
        print = functools.partial(print, flush=True)
        FRAME, FOLDER = np.zeros((1, 16, 32, 3), np.uint8), Path({str(folder)!r})
        ENCODING = Encoding(width=32, height=16, fps=8, preset="ultrafast")
        def saved(chunks, seed=1):
            path_names = numbered_names(FOLDER, stem=str(seed), suffix=".mp4")
            return save(chunks, FOLDER, path_names, writer=WRITERS["mp4"], encoding=ENCODING)
    """
    source = textwrap.dedent(code) + textwrap.dedent(body)
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        cwd=root,
        **options,
    )


@pytest.mark.parametrize("name", ["new", "new/and/deep", "."])
def test_a_folder_is_made_and_left_empty(tmp_path: Path, name: str):
    check_output_folder(tmp_path / name, 1000)
    assert names(tmp_path / name) == []


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_in_the_way_is_named(tmp_path: Path, name: str):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file of that name is in the way.*\nChoose another") as caught:
        check_output_folder(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@needs_posix
def test_a_folder_that_may_not_be_written_to_is_named(tmp_path: Path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if ROOT:
        for parent in (tmp_path, *tmp_path.parents[:2]):
            parent.chmod(0o755)
        os.seteuid(65534)
    try:
        for action in (
            check_output_folder,
            lambda folder: save([FRAME], folder, ["a"], writer=WRITERS["mp4"], encoding=SIZE),
        ):
            with pytest.raises(OutputError, match="may not write into") as caught:
                action(folder)
            assert str(folder) in str(caught.value)
    finally:
        if ROOT:
            os.seteuid(0)


def test_a_disk_with_too_little_room_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 9 * 10**8, 10**8))
    check_output_folder(tmp_path, 10**8)
    with pytest.raises(OutputError, match=r"100 MB free, and the videos may need 2,000 MB.\nFree some space"):
        check_output_folder(tmp_path, 2 * 10**9)


@pytest.mark.parametrize("crf", [0, 1, 17])
@pytest.mark.parametrize("name", WRITERS)
def test_the_estimate_is_enough_for_noise(tmp_path: Path, name: str, crf: int):
    frames = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    encoding = Encoding(width=64, height=64, fps=8, crf=crf, preset="ultrafast")
    path = save([frames], tmp_path, ["a"], writer=WRITERS[name], encoding=encoding)
    taken = sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))
    pixels = 64 * 64 * (1 if name == "png" else 4)
    assert taken <= WRITERS[name].bytes_per_pixel * pixels + 8192  # without the room for recipes
    assert taken <= estimated_bytes(width=64, height=64, frames=4, formats=[name])


def test_the_estimate_of_several_formats_is_their_sum():
    size = {"width": 64, "height": 64, "frames": 10}
    both = estimated_bytes(**size, formats=["mp4", "apng"])
    assert both == estimated_bytes(**size) + estimated_bytes(**size, formats=["apng"])
    assert estimated_bytes(**size, formats=["png"]) == estimated_bytes(**{**size, "frames": 1}, formats=["png"])


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "is full"),
        (errno.EDQUOT, "is full"),
        (errno.EACCES, "may not write"),
        (errno.EPERM, "may not write"),
        (errno.EROFS, "Nothing can be written"),
        (errno.EIO, "Nothing can be written"),
        (errno.ENAMETOOLONG, "Nothing can be written"),
    ],
)
def test_the_systems_errors_name_folder_and_remedy(number: int, sentence: str):
    error = output_error(OSError(number, os.strerror(number)), Path("folder"))
    assert sentence in error.problem
    assert "folder" in error.problem
    assert "Choose another output folder" in error.remedy


@pytest.mark.parametrize(
    "log",
    [
        "Error muxing a packet: No space left on device",
        "x\nwriting trailer: There is not enough space on the disk",
        "Disk quota exceeded",
    ],
)
def test_a_full_disk_is_recognised_in_the_encoders_words(log: str):
    assert "disk of folder is full" in encoder_failed(Path("folder"), log).problem


@pytest.mark.skipif(not ROOT or sys.platform != "linux", reason="mounting a small disk needs root")
@pytest.mark.parametrize("size", [32, 128])
def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, size: int):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting isn't allowed here")
    try:
        noise = (np.random.default_rng(i).integers(0, 256, (1, 128, 128, 3), dtype=np.uint8) for i in range(200))
        encoding = Encoding(width=128, height=128, fps=8, preset="ultrafast", infotext="x" * 20000)
        with pytest.raises(OutputError, match="is full"):
            save(noise, tmp_path, ["a"], writer=WRITERS["mp4"], encoding=encoding)
        assert names(tmp_path) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_file_is_published_under_the_first_free_name(tmp_path: Path):
    (tmp_path / "a").write_text("mine")
    with temporary_file(tmp_path, ".x") as path:
        path.write_text("new")
        assert publish(path, ["a", "b", "c"]) == tmp_path / "b"
    assert names(tmp_path) == ["a", "b"]
    assert (tmp_path / "a").read_text() == "mine"


@pytest.mark.parametrize("error", [PermissionError(errno.EPERM, "no"), OSError(errno.EOPNOTSUPP, "no")], ids=repr)
def test_disks_without_hard_links_overwrite_nothing_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
):
    def refuse(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(os, "link", refuse)
    test_a_file_is_published_under_the_first_free_name(tmp_path)


@needs_posix
def test_without_hard_links_a_failed_rename_leaves_no_empty_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: Any, **options: Any) -> None:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError), temporary_file(tmp_path, ".x") as path:
        publish(path, ["a"])
    assert names(tmp_path) == []


@needs_posix
def test_a_dangling_link_is_a_taken_name(tmp_path: Path):
    (tmp_path / "a").symlink_to(tmp_path / "elsewhere")
    with temporary_file(tmp_path, ".x") as path:
        assert publish(path, ["a", "b"]) == tmp_path / "b"
    assert names(tmp_path) == ["a", "b"]


def test_two_processes_never_take_the_same_name(tmp_path: Path):
    body = """
        print("ready")
        sys.stdin.read(1)
        for _ in range(3):
            print(saved([FRAME]).name)
    """
    processes = [saving(tmp_path, body) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = [process.communicate("x", timeout=90)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted([*outputs[0], *outputs[1]]) == names(tmp_path) == [f"{number:05d}-1.mp4" for number in range(6)]
    assert {probe(tmp_path / name).frames for name in names(tmp_path)} == {1}


@needs_posix
@pytest.mark.parametrize("nameless", [True, False])
def test_kill_9_leaves_nothing_or_what_the_next_write_cleans_up(tmp_path: Path, nameless: bool):
    body = """
        from t2v_core.media import temporary
        if sys.argv[1:] == ["named"]:
            temporary._open_nameless = lambda folder: None
        def chunks():
            yield FRAME
            print("writing")
            time.sleep(100)
        saved(chunks())
    """
    process = saving(tmp_path, body, *(() if nameless else ("named",)))
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.kill()
    process.communicate()
    left = names(tmp_path)
    assert bool(left) != (nameless and HAS_NAMELESS)
    assert all(name.startswith(".txt2video-") and not name.endswith(".mp4") for name in left)
    save([FRAME], tmp_path, ["a"], writer=WRITERS["mp4"], encoding=SIZE)
    assert names(tmp_path) == ["a"]


@needs_posix
def test_ctrl_c_on_the_console_does_not_end_the_encoder(tmp_path: Path):
    """The console sends it to every process of the group; ours decides, and what there is gets saved."""
    body = """
        import signal
        stopped = []
        signal.signal(signal.SIGINT, lambda *args: stopped.append(1))
        def chunks():
            yield FRAME
            print("writing")
            while not stopped:
                time.sleep(0.01)
            time.sleep(0.3)
            for _ in range(100):
                yield FRAME
        print(saved(chunks()).name)
    """
    process = saving(tmp_path, body, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[0].split() == ["00000-1.mp4"]
    assert probe(tmp_path / "00000-1.mp4").frames == 101


def test_other_peoples_files_and_running_writes_are_left_alone(tmp_path: Path):
    ours = re.fullmatch(r"\.txt2video-(\w{8})-(\d+)-\w{8}\.mp4\.partial", _temporary_name(tmp_path))
    assert ours is not None
    host, pid = ours.groups()
    dead = _ended_process()
    kept = [
        f".txt2video-{host}-{pid}-00000000.mp4.partial",  # this process is running
        f".txt2video-00000000-{dead}-00000000.mp4.partial",  # another machine's, whose process we can't ask about
        ".txt2video-notes",
        f".txt2video-{host}-{dead}.mp4.partial",
        "00001-1.mp4",
        "holiday.partial",
    ]
    abandoned = [f".txt2video-{host}-{dead}-{i:08x}.mp4.partial{rest}" for i, rest in enumerate(["", ".ffmetadata"])]
    for name in kept + (abandoned if os.name != "nt" else []):
        (tmp_path / name).touch()
    (tmp_path / f".txt2video-{host}-{dead}-0000000a.mp4.partial").mkdir()
    remove_abandoned(tmp_path)
    assert names(tmp_path) == sorted([*kept, f".txt2video-{host}-{dead}-0000000a.mp4.partial"])


def test_after_a_day_any_temporary_file_is_abandoned(tmp_path: Path):
    path = tmp_path / _temporary_name(tmp_path)
    path.touch()
    yesterday = time.time() - 25 * 3600
    os.utime(path, (yesterday, yesterday))
    remove_abandoned(tmp_path)
    assert names(tmp_path) == []


def test_cleaning_a_missing_folder_is_no_error(tmp_path: Path):
    remove_abandoned(tmp_path / "missing")


@pytest.mark.parametrize("pid", [2**31, 10**9])
def test_impossible_process_numbers_have_ended(pid: int):
    assert temporary._has_ended(pid) is (os.name != "nt")


def test_an_error_in_the_frames_keeps_the_next_number_free(tmp_path: Path):
    def chunks() -> Iterator[Any]:
        yield FRAME
        raise RuntimeError

    for _ in range(2):
        with pytest.raises(RuntimeError):
            save(
                chunks(),
                tmp_path,
                numbered_names(tmp_path, stem="1", suffix=".mp4"),
                writer=WRITERS["mp4"],
                encoding=SIZE,
            )
    path = save(
        [FRAME], tmp_path, numbered_names(tmp_path, stem="1", suffix=".mp4"), writer=WRITERS["mp4"], encoding=SIZE
    )
    assert path.name == "00000-1.mp4"


def _temporary_name(folder: Path) -> str:
    with temporary._named_file(folder, ".mp4") as path:
        return path.name


def _ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid
