from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from t2v_core.errors import OutputError
from t2v_core.media import Encoding
from t2v_core.media.ffmpeg import executable, local_file, metadata_file, metadata_in
from t2v_core.media.film import write
from t2v_core.media.reading import read_frames


def flat(colours: np.ndarray, *, height: int = 32, width: int = 48) -> np.ndarray:
    return np.broadcast_to(colours[:, None, None].astype(np.uint8), (len(colours), height, width, 3))


def described(path: Path) -> str:
    import subprocess

    log = subprocess.run(
        [executable(), "-hide_banner", "-i", local_file(path)], capture_output=True, check=False
    ).stderr
    return log.decode()


@pytest.fixture
def colours() -> np.ndarray:
    corners = np.stack(np.meshgrid([0, 128, 255], [0, 128, 255], [0, 128, 255]), axis=-1).reshape(-1, 3)
    return np.concatenate([corners, np.random.default_rng(0).integers(0, 256, (40, 3))])


def test_flat_colours_come_back_within_two_levels(tmp_path: Path, colours: np.ndarray):
    path = tmp_path / "a.mp4"
    write(path, [flat(colours)], Encoding(width=48, height=32, fps=8, crf=1))
    assert np.abs(read_frames(path).astype(int) - flat(colours)).max() <= 2


def test_colours_are_stored_by_the_matrix_that_is_named(tmp_path: Path):
    """Decoded by hand from the stored planes, by the standard's numbers (ITU-R BT.709, limited range)."""
    import subprocess

    path = tmp_path / "a.mp4"
    write(path, [flat(np.array([[200, 30, 90]]))], Encoding(width=48, height=32, fps=8, crf=1))
    raw = subprocess.run(
        [executable(), "-v", "error", "-i", local_file(path), "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"],
        capture_output=True,
        check=True,
    ).stdout
    pixels = np.frombuffer(raw, np.uint8)
    area = 48 * 32
    luma, blue, red = (float(plane.mean()) for plane in np.split(pixels, [area, area + area // 4]))
    r, g, b = 200 / 255, 30 / 255, 90 / 255
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    assert luma == pytest.approx(16 + 219 * y, abs=1)
    assert blue == pytest.approx(128 + 224 * (b - y) / 1.8556, abs=1)
    assert red == pytest.approx(128 + 224 * (r - y) / 1.5748, abs=1)


def test_what_a_player_reads(tmp_path: Path):
    path = tmp_path / "a.mp4"
    write(path, [flat(np.array([[200, 30, 90]]))], Encoding(width=48, height=32, fps=8))
    assert re.search(r"Video: h264 .*yuv420p\(tv, bt709", described(path))
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    # The tags in the file itself: primaries, transfer and matrix 1 (BT.709), full range off.
    assert b"colrnclx" + bytes([0, 1, 0, 1, 0, 1, 0]) in content


def test_crf_decides_about_size(tmp_path: Path):
    frames = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    sizes = []
    for crf in (0, 17, 40):
        write(tmp_path / f"{crf}.mp4", [frames], Encoding(width=64, height=64, fps=8, crf=crf))
        sizes.append((tmp_path / f"{crf}.mp4").stat().st_size)
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize(("width", "height"), [(33, 32), (32, 33), (1, 1)])
def test_an_odd_size_is_refused_before_anything_is_written(tmp_path: Path, width: int, height: int):
    with pytest.raises(OutputError, match="even width and height"):
        write(tmp_path / "a.mp4", [], Encoding(width=width, height=height, fps=8))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_encoder_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from moviepy.video.io import ffmpeg_writer

    if hasattr(ffmpeg_writer, "FFMPEG_BINARY"):
        monkeypatch.setattr(ffmpeg_writer, "FFMPEG_BINARY", str(tmp_path / "nowhere"))
    else:
        monkeypatch.setattr(ffmpeg_writer, "get_setting", lambda name: str(tmp_path / "nowhere"))
    with pytest.raises(OutputError, match="pip install imageio-ffmpeg"):
        write(tmp_path / "a.mp4", [flat(np.zeros((1, 3)))], Encoding(width=48, height=32, fps=8))
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_refuses_says_why(tmp_path: Path):
    with pytest.raises(OutputError, match="nonsense"):
        write(tmp_path / "a.mp4", [flat(np.zeros((300, 3)))], Encoding(width=48, height=32, fps=8, preset="nonsense"))


@pytest.mark.parametrize("text", ["", "a", "=;#\\\n\r", "\\\\n", "[x]\n;c\n#d=e", "一\u2028\x85"])
def test_the_metadata_format_loses_nothing(text: str):
    assert metadata_in(metadata_file(text)) == {"comment": text}


def test_metadata_of_streams_is_not_the_files():
    assert metadata_in(b";FFMETADATA1\nTitle=a\n[STREAM]\ncomment=b\n") == {"title": "a"}


def test_a_nul_is_refused_not_cut_off():
    with pytest.raises(ValueError, match="NUL"):
        metadata_file("a\0b")


@pytest.mark.parametrize(("fps", "rate"), [(8, "8"), (23.976, "2997/125"), (29.97, "2997/100"), (1 / 3, "1/3")])
def test_frames_per_second_are_the_fraction_that_was_meant(fps: float, rate: str):
    assert str(Encoding(width=8, height=8, fps=fps).rate) == rate


@pytest.mark.parametrize(("width", "height", "fps"), [(0, 8, 8), (8, -8, 8), (8, 8, 0)])
def test_impossible_encodings_are_refused(width: int, height: int, fps: float):
    with pytest.raises(ValueError, match="no video"):
        Encoding(width=width, height=height, fps=fps)
