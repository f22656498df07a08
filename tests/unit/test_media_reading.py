from __future__ import annotations

import os
import random
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2v_core.errors import UnreadableFileError
from t2v_core.media import Encoding, ffmpeg, film
from t2v_core.media.reading import iterate_frames, probe, read_frames, read_metadata

READERS = (read_metadata, probe, read_frames)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine frames of 64x48 noise at 8 frames per second, with a comment."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    frames = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), dtype=np.uint8)
    film.write(path, [frames], Encoding(width=64, height=48, fps=8, infotext="a cat\nSteps: 1", preset="ultrafast"))
    return path


def run_ffmpeg(*arguments: Any) -> None:
    subprocess.run([ffmpeg.executable(), "-v", "error", *map(str, arguments)], check=True)


def assert_unreadable(reader: Any, path: Path) -> str:
    with pytest.raises(UnreadableFileError) as caught:
        reader(path)
    message = caught.value.problem
    assert str(path) in message
    assert "\n" not in message.replace(str(path), "")
    assert message.endswith(".")
    return message


def test_a_clip_is_read_whole(clip: Path):
    found = probe(clip)
    assert (found.frames, found.fps, found.width, found.height) == (9, Fraction(8), 64, 48)
    assert found.codec == "h264"
    assert found.duration == Fraction(9, 8)
    assert read_metadata(clip) == "a cat\nSteps: 1"
    frames = read_frames(clip)
    assert frames.shape == (9, 48, 64, 3)
    assert frames.dtype == np.uint8
    assert (read_frames(clip) == frames).all()


def test_a_path_may_be_relative(clip: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(clip.parent)
    assert probe(Path("clip.mp4")).frames == len(read_frames(Path("clip.mp4"))) == 9
    assert read_metadata(Path("clip.mp4")) == "a cat\nSteps: 1"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("a.mkv", ["-c", "copy"]),
        ("a.avi", ["-c:v", "mjpeg"]),
        ("a.webm", ["-c:v", "libvpx", "-b:v", "1M"]),
        ("a.gif", []),
        ("a.mov", ["-c", "copy"]),
    ],
)
def test_other_containers_are_read_too(clip: Path, tmp_path: Path, name: str, arguments: list[str]):
    path = tmp_path / name
    run_ffmpeg("-i", clip, *arguments, path)
    assert probe(path).frames == len(read_frames(path)) == 9
    assert float(probe(path).fps) == pytest.approx(8, rel=0.01)
    if name != "a.gif":
        assert read_metadata(path) == "a cat\nSteps: 1"


def test_frames_of_uneven_length_are_each_read_once(clip: Path, tmp_path: Path):
    path = tmp_path / "a.mkv"
    run_ffmpeg("-i", clip, "-vf", "setpts=N*N/8/TB", "-c:v", "ffv1", path)
    assert probe(path).frames == len(read_frames(path)) == 9


def test_a_video_without_a_comment_has_none(clip: Path, tmp_path: Path):
    run_ffmpeg("-i", clip, "-map_metadata", "-1", "-c", "copy", tmp_path / "a.mp4")
    assert read_metadata(tmp_path / "a.mp4") is None


def test_a_turned_video_is_read_upright(clip: Path, tmp_path: Path):
    run_ffmpeg("-i", clip, "-vf", "transpose=1", "-c:v", "ffv1", tmp_path / "a.mkv")
    assert read_frames(tmp_path / "a.mkv").shape == (9, 64, 48, 3)


def test_frames_come_one_by_one_and_the_decoder_ends_with_the_reader(clip: Path, monkeypatch: pytest.MonkeyPatch):
    started = []
    real = subprocess.Popen

    def recorded(*args: Any, **kwargs: Any) -> Any:
        started.append(real(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", recorded)
    frames = iterate_frames(clip)
    assert next(frames).shape == (48, 64, 3)
    frames.close()  # type: ignore[attr-defined]
    assert [process.returncode is not None for process in started] == [True]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"just some text\n" * 50,
        b"<!doctype html><html><body>Sign in</body></html>" * 20,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"PK\x03\x04" + bytes(100),
        b"\0\0\0\x18ftypmp42" + bytes(12),
        random.Random(0).randbytes(5000),
        b";FFMETADATA1\ncomment=x\n",
        b"ffconcat version 1.0\nfile clip.mp4\n",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1\nclip.mp4\n#EXT-X-ENDLIST\n",
    ],
    ids=lambda content: ascii(content[:12]),
)
def test_what_is_no_video_is_said_in_one_sentence(reader: Any, clip: Path, tmp_path: Path, content: bytes):
    shutil.copy(clip, tmp_path / "clip.mp4")  # what the playlists above name: it must not be opened through them
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert_unreadable(reader, path)


@pytest.mark.parametrize("part", [0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_video_that_is_cut_short_is_noticed(clip: Path, tmp_path: Path, part: float):
    path = tmp_path / "a.mp4"
    content = clip.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    assert "cut short" in assert_unreadable(probe, path)
    assert "cut short" in assert_unreadable(read_frames, path)


def test_a_video_that_is_cut_short_still_tells_its_recipe(clip: Path, tmp_path: Path):
    path = tmp_path / "a.mp4"
    path.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    assert read_metadata(path) == "a cat\nSteps: 1"


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_file_a_folder_and_a_pipe_are_told_apart(reader: Any, tmp_path: Path):
    assert "no file" in assert_unreadable(reader, tmp_path / "nowhere.mp4")
    assert "no file" in assert_unreadable(reader, tmp_path / "nowhere.txt")
    (tmp_path / "folder.mp4").mkdir()
    assert "folder" in assert_unreadable(reader, tmp_path / "folder.mp4")
    assert_unreadable(reader, tmp_path / ("x" * 300 + ".mp4"))
    with pytest.raises(UnreadableFileError):
        reader(Path("nul\0.mp4"))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.mp4")
        assert "ordinary" in assert_unreadable(reader, tmp_path / "pipe.mp4")


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_may_not_be_read(reader: Any, clip: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything, so the mode of the file would prove nothing
    assert "may not be read" in assert_unreadable(reader, clip)


@pytest.mark.parametrize("reader", [probe, read_frames])
def test_sound_alone_is_no_video(reader: Any, tmp_path: Path):
    run_ffmpeg("-f", "lavfi", "-i", "sine=duration=0.1", tmp_path / "a.mp4")
    assert "no pictures" in assert_unreadable(reader, tmp_path / "a.mp4")


@pytest.mark.parametrize(
    "name", ["concat:clip.mp4", "http://127.0.0.1:9/x.mp4", "pipe:0", "file:clip.mp4", "-i", "data:,x"]
)
@pytest.mark.parametrize("reader", READERS)
def test_names_are_files_and_nothing_else(
    reader: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    shutil.copy(clip, tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    assert "no file" in assert_unreadable(reader, Path(name))


def test_a_text_file_holds_settings(tmp_path: Path):
    path = tmp_path / "a.TXT"
    path.write_bytes("\ufeffa cat 猫\r\nSteps: 1".encode())
    assert read_metadata(path) == "a cat 猫\r\nSteps: 1"


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"a\0b", b"x" * (5 * 1024 * 1024)], ids=lambda c: ascii(c[:4])
)
def test_what_is_no_text_is_said(tmp_path: Path, content: bytes):
    (tmp_path / "a.txt").write_bytes(content)
    assert_unreadable(read_metadata, tmp_path / "a.txt")


def test_no_ffmpeg_names_the_remedy(clip: Path, monkeypatch: pytest.MonkeyPatch):
    import imageio_ffmpeg

    def missing() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    with pytest.raises(UnreadableFileError, match="pip install imageio-ffmpeg"):
        probe(clip)


def test_an_ffmpeg_that_cannot_be_started_is_said(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(tmp_path / "nowhere"))
    with pytest.raises(UnreadableFileError, match="can't be started"):
        probe(clip)
