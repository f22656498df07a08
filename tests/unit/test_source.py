"""Videos that someone hands us: what they are, and exactly the frames that are wanted."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_files import animation, content, cut, looped, run_ffmpeg, sound_only, video, with_sound
from PIL import Image

from t2v_core.errors import UnreadableFileError
from t2v_core.media import WRITERS, Encoding, Writer, film
from t2v_core.media.fingerprint import fingerprint
from t2v_core.media.output import save
from t2v_core.media.reading import read_frames
from t2v_core.media.sound import has_sound, sound_of
from t2v_core.media.source import Wanted, read_source, source_facts


def all_of(path: Path, wanted: Wanted) -> np.ndarray:
    return np.concatenate(list(read_source(path, wanted)))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of 64x48, each of another grey, at 8 frames per second."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    frames = np.full((12, 48, 64, 3), 0, np.uint8) + np.arange(20, 260, 20, dtype=np.uint8)[:, None, None, None]
    film.write(path, [frames], Encoding(width=64, height=48, fps=8, crf=1))
    return path


def greys(frames: np.ndarray) -> list[int]:
    """Which of the clip's frames these are."""
    return [round(float(frame.mean()) / 20) - 1 for frame in frames]


def test_a_clip_of_its_own_size_and_rate_comes_back_exactly(clip: Path):
    facts = source_facts(clip)
    assert (facts.width, facts.height, facts.frames, facts.fps, facts.seconds) == (64, 48, 12, 8, 1.5)
    assert (all_of(clip, Wanted(12, 8, 64, 48)) == read_frames(clip)).all()


@pytest.mark.parametrize("fps", [8, 24, 25, 30000 / 1001, 7, 60])
def test_any_frame_can_be_the_first(tmp_path: Path, fps: float):
    frames = np.zeros((9, 16, 16, 3), np.uint8) + np.arange(20, 200, 20, dtype=np.uint8)[:, None, None, None]
    path = tmp_path / "a.mp4"
    film.write(path, [frames], Encoding(width=16, height=16, fps=fps, crf=1))
    for first in range(9):
        found = all_of(path, Wanted(3, round(fps, 3), 16, 16, start=first / fps))
        assert greys(found) == list(range(first, min(first + 3, 9)))


def test_time_stays_what_it_was_at_another_rate(clip: Path):
    assert greys(all_of(clip, Wanted(24, 16, 64, 48))) == [index for index in range(12) for _ in range(2)]
    slower = greys(all_of(clip, Wanted(6, 4, 64, 48)))
    assert len(slower) == 6
    assert all(abs(index - 2 * place) <= 1 for place, index in enumerate(slower))


def test_uneven_times_become_even_ones(tmp_path: Path, clip: Path):
    path = tmp_path / "a.mkv"
    run_ffmpeg("-i", clip, "-vf", "setpts=N*N/16/TB", "-c:v", "ffv1", path)
    found = greys(all_of(path, Wanted(60, 8, 64, 48)))
    assert len(found) == 60
    shown = [round(index**0.5 * 2**0.5 - 0.5) for index in range(60)]
    assert all(abs(one - other) <= 1 for one, other in zip(found, shown, strict=True))
    assert found == sorted(found)


def test_a_turned_one_is_read_upright_and_an_anamorphic_one_in_its_shape(tmp_path: Path, clip: Path):
    run_ffmpeg("-display_rotation", "90", "-i", clip, "-c", "copy", tmp_path / "turned.mp4")
    assert (source_facts(tmp_path / "turned.mp4").width, source_facts(tmp_path / "turned.mp4").height) == (48, 64)
    assert all_of(tmp_path / "turned.mp4", Wanted(2, 8, 48, 64)).shape == (2, 64, 48, 3)
    run_ffmpeg("-i", clip, "-vf", "setsar=2", "-c:v", "libx264", tmp_path / "wide.mp4")
    assert (source_facts(tmp_path / "wide.mp4").width, source_facts(tmp_path / "wide.mp4").height) == (128, 48)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.mkv", video("-c:v", "ffv1")),
        ("a.webm", video("-c:v", "libvpx", "-b:v", "1M")),
        ("a.avi", video("-c:v", "mpeg4")),
        ("a.mov", video("-c:v", "prores_ks")),
        ("a.ts", video("-c:v", "mpeg2video", "-r", "25")),
        ("a.mpg", video("-c:v", "mpeg2video", "-r", "25")),
        ("a.flv", video("-c:v", "flv1")),
        ("a.wmv", video("-c:v", "wmv2")),
        ("a.3gp", video("-c:v", "h263", "-s", "176x144")),
        ("a.ogv", video("-c:v", "libtheora")),
        ("a.mxf", video("-c:v", "mpeg2video", "-r", "25")),
        ("a.nut", video("-c:v", "ffv1")),
        ("a.y4m", video("-pix_fmt", "yuv420p")),
        ("a.h264", video("-c:v", "libx264", "-r", "25")),
        ("a.hevc", video("-c:v", "libx265", "-r", "25", "-x265-params", "log-level=none")),
        ("ten.mp4", video("-c:v", "libx264", "-pix_fmt", "yuv420p10le")),
        ("twelve.mkv", video("-c:v", "ffv1", "-pix_fmt", "yuv444p12le")),
        ("alpha.mov", video("-c:v", "qtrle", "-pix_fmt", "argb")),
        ("a.gif", animation(8, duration=125)),
        ("a.webp", animation(8, duration=125)),
        ("a.png", animation(8, duration=125)),
    ],
)
def test_every_container_gives_the_wanted_frames(tmp_path: Path, name: str, make: Any):
    path = tmp_path / name
    make(path)
    facts = source_facts(path)
    assert facts.seconds == pytest.approx(1, abs=0.15)
    frames = all_of(path, Wanted(8, 8, 40, 32))
    assert frames.shape[1:] == (32, 40, 3)
    assert 7 <= len(frames) <= 8
    assert frames.std() > 10


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_a_video_for_bright_screens_is_neither_pale_nor_dark(tmp_path: Path, transfer: str, monkeypatch):
    tags = f"setparams=color_primaries=bt2020:color_trc={transfer}:colorspace=bt2020nc:range=tv"
    filters = f"format=yuv420p10le,geq=lum=572:cb=512:cr=512,{tags}"  # 58 %: white paper in such a picture
    video("-vf", filters, "-c:v", "libx264", "-pix_fmt", "yuv420p10le")(tmp_path / "a.mp4")
    assert source_facts(tmp_path / "a.mp4").is_hdr
    wanted = Wanted(2, 8, 48, 40)
    assert all_of(tmp_path / "a.mp4", wanted).mean() == pytest.approx(190 if transfer == "smpte2084" else 142, abs=8)
    monkeypatch.setattr("t2v_core.media.source._TO_SDR", "no_such_filter,")
    assert all_of(tmp_path / "a.mp4", wanted).mean() == pytest.approx(147, abs=8)


def test_the_fits(clip: Path):
    assert all_of(clip, Wanted(1, 8, 32, 48)).min() > 0
    padded = all_of(clip, Wanted(1, 8, 64, 80, fit="pad"))[0]
    assert (padded[:16] == 0).all()
    assert (padded[64:] == 0).all()
    assert padded[16:64].min() > 0
    assert all_of(clip, Wanted(1, 8, 64, 80, fit="stretch")).min() > 0


@pytest.mark.parametrize("size", ["4x1000", "1000x4"])
def test_a_strip_is_cut_before_it_is_scaled(tmp_path: Path, size: str):
    video("-c:v", "ffv1", size=size)(tmp_path / "a.mkv")
    assert all_of(tmp_path / "a.mkv", Wanted(2, 8, 256, 256)).shape == (2, 256, 256, 3)


def test_a_broken_tail_gives_the_frames_before(tmp_path: Path):
    path = tmp_path / "a.mkv"
    cut(video("-c:v", "ffv1", seconds=4), keep=0.5)(path)
    frames = all_of(path, Wanted(32, 8, 48, 40))
    assert 10 <= len(frames) < 24


def test_damage_in_the_middle_does_not_end_the_clip(tmp_path: Path):
    path = tmp_path / "a.ts"
    video("-c:v", "libx264", "-g", "8", "-r", "25", seconds=4)(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    path.write_bytes(bytes(data))
    assert len(all_of(path, Wanted(32, 8, 48, 40))) >= 28


def test_of_a_film_only_what_is_needed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "film.mp4"
    minutes = video("-c:v", "libx264", "-preset", "ultrafast", "-g", "50", size="16x16", seconds=100, rate=1)
    looped(minutes, times=144)(path)
    monkeypatch.setattr("t2v_core.media.source.COUNTED_WHOLE", 1000)
    began = time.monotonic()
    facts = source_facts(path)
    assert facts.seconds == pytest.approx(14400, abs=1)
    assert facts.frames == pytest.approx(14400, abs=2)
    assert not facts.is_counted
    assert len(all_of(path, Wanted(5, 1, 16, 16, start=4 * 3600 - 60))) == 5
    assert len(all_of(path, Wanted(5, 1, 16, 16))) == 5
    assert time.monotonic() - began < 10


def test_the_decoder_ends_with_the_reader(clip: Path, monkeypatch: pytest.MonkeyPatch):
    started = []
    real = subprocess.Popen

    def recorded(*args: Any, **kwargs: Any) -> Any:
        started.append(real(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", recorded)
    frames = read_source(clip, Wanted(500, 8, 640, 480))
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert started
    assert all(process.returncode is not None for process in started)


@pytest.mark.parametrize(
    ("name", "make"),
    [("a.mp4", content(b"hello, world\n" * 100)), ("a.m4a", sound_only()), ("a.mp4", content(bytes(5000)))],
)
def test_what_has_no_pictures_is_one_sentence(tmp_path: Path, name: str, make: Any):
    make(tmp_path / name)
    with pytest.raises(UnreadableFileError) as caught:
        source_facts(tmp_path / name)
    assert name in caught.value.problem
    assert "\n" not in caught.value.problem


@pytest.mark.parametrize("writer", WRITERS.values(), ids=lambda writer: writer.name)
def test_every_format_that_is_written_can_be_a_source(writer: Writer, tmp_path: Path):
    down, across = np.mgrid[:96, :128]
    frames = np.stack([np.stack([across + 8 * i, 2 * down, 0 * down + 20 * i], -1) for i in range(9)]).astype(np.uint8)
    encoding = Encoding(width=128, height=96, fps=8, infotext="a\nSteps: 1, Seed: 2, FPS: 8", preset="ultrafast")
    path = save([frames], tmp_path, [f"clip{writer.suffix}"], writer=writer, encoding=encoding)
    found, count = all_of(path, Wanted(9, 8, 128, 96)), 1 if writer.name == "png" else 9
    assert found.shape == (count, 96, 128, 3)
    assert np.abs(found.astype(int) - frames[:count]).mean() < (8 if writer.name == "gif" else 1.5)
    assert source_facts(path).frames == count
    assert source_facts(path).fps == pytest.approx(8 if count > 1 else 0, abs=1e-6)


def test_a_long_gif_loses_no_frame_to_its_hundredths_of_a_second(tmp_path: Path):
    pictures = [Image.new("L", (16, 16), index) for index in range(250)]
    durations = [round((index + 1) * 100 / 24) * 10 - round(index * 100 / 24) * 10 for index in range(250)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=durations)
    facts = source_facts(tmp_path / "a.gif")
    assert (facts.frames, facts.fps) == (250, pytest.approx(24))
    found = all_of(tmp_path / "a.gif", Wanted(250, 24, 16, 16))
    assert [int(frame[0, 0, 0]) for frame in found] == list(range(250))


def test_a_folder_of_pictures_is_a_video_in_the_order_of_their_numbers(tmp_path: Path):
    folder = tmp_path / "clip-frames"
    folder.mkdir()
    for number in (10, 9, 2, 1):
        Image.new("RGB", (64, 48), (number * 20,) * 3).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("no picture")
    (folder / "0.png").symlink_to(tmp_path / "elsewhere.png")
    facts = source_facts(folder)
    assert (facts.width, facts.height, facts.frames, facts.fps) == (64, 48, 4, 8)
    assert greys(all_of(folder, Wanted(8, 8, 64, 48))) == [0, 1, 8, 9]
    assert greys(all_of(folder, Wanted(2, 16, 64, 48, start=0.125))) == [1, 1]
    first = fingerprint(folder)
    (folder / "10.png").unlink()
    assert fingerprint(folder) != first


def test_sound_is_taken_from_where_it_is_wanted(tmp_path: Path):
    with_sound("-c:v", "ffv1", "-c:a", "flac")(tmp_path / "a.mkv")
    video("-c:v", "ffv1")(tmp_path / "silent.mkv")
    assert source_facts(tmp_path / "a.mkv").has_sound
    assert has_sound(tmp_path / "a.mkv")
    assert not has_sound(tmp_path / "silent.mkv")
    with sound_of(tmp_path / "a.mkv", tmp_path, start=0.25, seconds=0.5) as sound:
        assert sound is not None
        run_ffmpeg("-i", sound, "-f", "s16le", "-ac", "1", "-ar", "44100", tmp_path / "raw")
        assert (tmp_path / "raw").stat().st_size == pytest.approx(44100, rel=0.1)
    with sound_of(tmp_path / "silent.mkv", tmp_path) as sound:
        assert sound is None
    with sound_of(tmp_path / "a.mkv", tmp_path, start=100) as sound:
        assert sound is None
    (tmp_path / "text.mp3").write_text("no sound at all")
    with pytest.raises(UnreadableFileError, match=r"text\.mp3"), sound_of(tmp_path / "text.mp3", tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"a.mkv", "silent.mkv", "raw", "text.mp3"}


def test_a_giant_is_refused_before_it_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    video("-c:v", "ffv1", size="640x480")(tmp_path / "a.mkv")
    monkeypatch.setattr("t2v_core.media.ffmpeg.MOST_PIXELS", 640 * 480 - 1)
    with pytest.raises(UnreadableFileError, match=r"a\.mkv"):
        source_facts(tmp_path / "a.mkv")
