"""gif, webp and apng as other programs read them, their palette, their pace, and recipes in pictures."""

from __future__ import annotations

import struct
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from t2v_core.errors import OutputError, UnreadableFileError
from t2v_core.media import WRITERS, Encoding, film_codecs
from t2v_core.media.ffmpeg import executable, local_file
from t2v_core.media.film_codecs import FILMS, encoder_for, encoders
from t2v_core.media.output import save
from t2v_core.media.pace import paced
from t2v_core.media.palette import COLORS, palette_of
from t2v_core.media.picture_text import exif_with, jpeg_with_text, text_in
from t2v_core.media.quality import effort, picture_quality
from t2v_core.media.reading import probe, read_frames, read_metadata
from t2v_core.media.temporary import publish, remove_abandoned, temporary_folder
from t2v_core.video import Frames


def disk(count: int = 6, *, height: int = 24, width: int = 40) -> Frames:
    """A light disk that moves over a dark ground."""
    y, x = np.mgrid[:height, :width]
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[:] = (20, 30, 90)
    for number, frame in enumerate(frames):
        frame[(x - 10 - 3 * number) ** 2 + (y - 12) ** 2 < 49] = (240, 200, 60)
    return frames


def sunset(count: int = 8, *, height: int = 64, width: int = 96) -> Frames:
    """Far more than 255 colors in all: each frame another shade of a gradient."""
    y, x = np.mgrid[:height, :width]
    ground = np.stack([200 - y, 80 + x * 0.7, 90 + y * 1.4], axis=-1)
    return np.stack([(ground + 3 * number).clip(0, 255).astype(np.uint8) for number in range(count)])


def saved(folder: Path, name: str, frames: Frames, **options: Any) -> Path:
    settings = Encoding(**({"width": frames.shape[2], "height": frames.shape[1], "fps": 8} | options))
    return save([frames], folder, [f"a{WRITERS[name].suffix}"], writer=WRITERS[name], encoding=settings)


@pytest.mark.parametrize("name", ["gif", "webp", "apng"])
def test_pillow_reads_the_same_frames(tmp_path: Path, name: str):
    frames = disk()
    with Image.open(saved(tmp_path, name, frames, crf=0)) as picture:
        assert getattr(picture, "n_frames", 1) == 6
        again = np.stack([np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)])
    assert np.array_equal(again, frames)


@pytest.mark.parametrize("name", ["gif", "apng"])
def test_ffmpeg_reads_the_same_frames(tmp_path: Path, name: str):
    frames = disk()
    path = saved(tmp_path, name, frames)
    command = [executable(), "-v", "error", "-i", local_file(path), "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    assert raw[: frames.nbytes] == frames.tobytes()


@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize("name", ["gif", "webp", "apng"])
def test_an_animation_is_played_as_often_as_was_asked(tmp_path: Path, name: str, count: int):
    path = saved(tmp_path, name, disk(2), loop_count=count)
    with Image.open(path) as picture:
        found = picture.info.get("loop")
    # A gif says how often it's repeated, and one without that is shown once.
    assert found == ({0: 0, 1: None, 2: 1, 7: 6}[count] if name == "gif" else count)


@pytest.mark.parametrize("name", ["gif", "webp", "apng"])
def test_a_single_frame_is_a_whole_file(tmp_path: Path, name: str):
    path = saved(tmp_path, name, disk(1), infotext="one", crf=0)
    assert np.abs(read_frames(path).astype(int) - disk(1)).max() == 0
    assert read_metadata(path) == "one"


def test_frames_of_a_gif_that_are_alike_take_hardly_any_room(tmp_path: Path):
    still = np.repeat(sunset(1), 20, axis=0)
    one = saved(tmp_path / "one", "gif", still[:1]).stat().st_size
    path = saved(tmp_path / "all", "gif", still)
    assert path.stat().st_size < one + 20 * 64
    assert probe(path).frames == 20
    assert len(np.unique(read_frames(path).reshape(20, -1), axis=0)) == 1


# ---- The palette


def test_a_clip_of_few_colors_keeps_them_exactly():
    colors = np.random.default_rng(0).integers(0, 256, (COLORS, 3), dtype=np.uint8)
    colors = np.unique(colors, axis=0)
    frames = colors[np.random.default_rng(1).integers(0, len(colors), (40, 30, 30))]
    palette = palette_of(frames)
    assert palette.is_exact
    assert all(np.array_equal(palette.colors[palette.indices(frame)], frame) for frame in frames)
    assert len(palette.table) == 768


def test_a_color_that_only_a_frame_between_the_looked_at_ones_has_is_not_lost():
    frames = np.zeros((200, 8, 8, 3), np.uint8)
    frames[101, 3, 3] = (250, 10, 20)
    palette = palette_of(frames)
    assert tuple(palette.colors[palette.indices(frames[101])][3, 3]) == (250, 10, 20)


def test_areas_of_a_clip_with_many_colors_keep_their_color_on_the_average():
    frames = sunset()
    palette = palette_of(frames)
    assert not palette.is_exact
    again = np.stack([palette.colors[palette.indices(frame)] for frame in frames]).astype(int)
    tiles = (again - frames).reshape(8, 8, 8, 12, 8, 3).mean(axis=(2, 4))
    assert np.abs(tiles).mean() < 2
    assert np.abs(again - frames).mean() < 5


def test_a_plain_area_among_many_colors_is_exact_and_still():
    frames = sunset(count=12, height=64, width=96)
    frames[:, 16:48, 16:48] = (12, 200, 34)
    palette = palette_of(frames)
    assert not palette.is_exact
    for frame in frames:
        area = palette.colors[palette.indices(frame)][16:48, 16:48]
        assert (area == (12, 200, 34)).all()


def test_no_pixel_gets_the_index_that_stands_for_what_was_there():
    for frames in (sunset(), disk(), np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)):
        palette = palette_of(frames)
        assert all(palette.indices(frame).max() < min(len(palette.colors), palette.unused) for frame in frames)


def test_the_same_clip_has_the_same_palette():
    first, second = palette_of(sunset()), palette_of(sunset())
    assert np.array_equal(first.colors, second.colors)


# ---- The pace


@pytest.mark.parametrize("count", [1, 7, 24, 100])
@pytest.mark.parametrize(
    "rate", [Fraction(1), Fraction(8), Fraction(2997, 125), Fraction(30), Fraction(48), Fraction(50)]
)
def test_durations_together_last_as_long_as_the_clip(rate: Fraction, count: int):
    shown = list(paced(range(count), rate, unit=100, fastest=Fraction(50)))
    assert [item for item, _ in shown] == list(range(count))
    assert min(duration for _, duration in shown) >= 2
    assert sum(duration for _, duration in shown) == round(count * 100 / rate)


@pytest.mark.parametrize("rate", [Fraction(60), Fraction(75), Fraction(120), Fraction(51)])
def test_a_rate_that_is_too_fast_leaves_frames_out_evenly(rate: Fraction):
    shown = list(paced(range(240), rate, unit=100, fastest=Fraction(50)))
    kept = [item for item, _ in shown]
    assert sum(duration for _, duration in shown) == pytest.approx(24000 / rate, abs=3)
    steps = set(np.diff(kept).tolist())
    assert max(steps) - min(steps) <= 1
    assert kept[0] == 0


# ---- Quality


def test_quality_falls_as_the_rate_factor_rises():
    found = [picture_quality(crf) for crf in range(52)]
    assert found == sorted(found, reverse=True)
    assert (found[0], found[17], found[28], found[51]) == (100, 95, 78, 10)


def test_effort_is_from_the_first_preset_to_the_last():
    presets = ("a", "b", "c")
    assert [effort(name, presets, most=6) for name in (*presets, "other")] == [0, 3, 6, 3]


@pytest.mark.parametrize("variant", FILMS)
def test_every_quality_and_preset_has_arguments(variant: str):
    from t2v_core.media import PRESETS

    for encoder in FILMS[variant].encoders:
        for crf in range(52):
            assert all(isinstance(argument, str) and argument for argument in encoder.quality(crf))
        for preset in (*PRESETS, "other"):
            assert all(isinstance(argument, str) and argument for argument in encoder.options(preset))


def test_the_second_best_encoder_is_taken_where_the_best_is_missing(monkeypatch: pytest.MonkeyPatch):
    size = Encoding(width=64, height=64, fps=8)
    assert encoder_for(FILMS["av1"], size).name == "libaom-av1"
    monkeypatch.setattr(film_codecs, "encoders", lambda: frozenset({"libsvtav1"}))
    assert encoder_for(FILMS["av1"], size).name == "libsvtav1"
    with pytest.raises(OutputError, match="can't have 32x32 pixels"):
        encoder_for(FILMS["av1"], Encoding(width=32, height=32, fps=8))


def test_a_clip_by_the_second_best_encoder_is_right_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if "libsvtav1" not in encoders():
        pytest.skip("this ffmpeg has no SVT-AV1")
    monkeypatch.setattr(film_codecs, "encoders", lambda: frozenset({"libsvtav1"}))
    frames = np.stack([np.full((64, 96, 3), 40 * number, np.uint8) for number in range(6)])
    path = saved(tmp_path, "mp4-av1", frames)
    assert np.abs(read_frames(path).astype(int) - frames).max() <= 2


# ---- Recipes in pictures


def test_the_webui_reads_the_recipe_where_it_looks_for_it(tmp_path: Path):
    """A PNG's text "parameters", and Exif's user comment in WebP and JPEG."""
    text = "a cat, 一只猫\nSteps: 3, Seed: 7, Size: 40x24"
    for name in ("png", "apng"):
        with Image.open(saved(tmp_path / name, name, disk(2), infotext=text)) as picture:
            assert picture.info["parameters"] == text
    folder = saved(tmp_path / "jpeg", "jpeg-sequence", disk(2), infotext=text)
    for path in (saved(tmp_path / "webp", "webp", disk(2), infotext=text), *folder.iterdir()):
        with Image.open(path) as picture:
            comment = picture.getexif().get_ifd(0x8769)[0x9286]
        assert comment == b"UNICODE\0" + text.encode("utf-16-be")


def test_each_picture_of_a_sequence_has_the_recipe(tmp_path: Path):
    for name in ("png-sequence", "jpeg-sequence"):
        folder = saved(tmp_path / name, name, disk(3), infotext="mine")
        assert [read_metadata(path) for path in sorted(folder.iterdir())] == ["mine"] * 3


@pytest.mark.parametrize("size", [10, 32_000, 65_000, 200_000])
def test_a_jpeg_holds_a_text_of_any_length(tmp_path: Path, size: int):
    import io

    content = io.BytesIO()
    Image.fromarray(disk(1)[0]).save(content, "jpeg")
    text = "é" * size
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg_with_text(content.getvalue(), text))
    assert text_in(path) == text
    with Image.open(path) as picture:
        picture.load()


def test_exif_is_understood_by_pillow():
    exif = Image.Exif()
    exif.load(exif_with("x"))
    assert exif.get_ifd(0x8769)[0x9286] == b"UNICODE\0\0x"


def test_recipes_of_other_programs_are_read(tmp_path: Path):
    from PIL import PngImagePlugin

    picture = Image.fromarray(disk(1)[0])
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "of the WebUI")
    picture.save(tmp_path / "a.png", pnginfo=texts)
    picture.save(tmp_path / "a.webp", exif=exif_with("of the WebUI"))
    picture.save(tmp_path / "a.gif", comment=b"of the WebUI")
    picture.save(tmp_path / "a.jpg", comment="of the WebUI")
    for path in tmp_path.iterdir():
        assert read_metadata(path) == "of the WebUI"


def test_a_picture_without_a_recipe_has_none(tmp_path: Path):
    for suffix in ("png", "webp", "gif", "jpg"):
        Image.fromarray(disk(1)[0]).save(tmp_path / f"a.{suffix}")
        assert read_metadata(tmp_path / f"a.{suffix}") is None


@pytest.mark.parametrize("name", ["gif", "webp", "apng", "png"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_picture_that_is_cut_short_is_read_or_one_sentence(tmp_path: Path, name: str, share: float):
    path = saved(tmp_path, name, sunset(), infotext="x" * 400)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    for read in (read_metadata, probe, read_frames):
        problem = None
        try:
            read(path)
        except UnreadableFileError as error:
            problem = str(error)
        assert problem is None or path.name in problem


def test_hostile_chunks_of_a_webp_take_no_time(tmp_path: Path):
    path = tmp_path / "a.webp"
    path.write_bytes(b"RIFF" + struct.pack("<I", 2**32 - 1) + b"WEBP" + b"ANMF\xff\xff\xff\xff" * 2)
    with pytest.raises(UnreadableFileError):
        probe(path)


# ---- A folder that appears whole


def test_a_folder_of_pictures_appears_whole_or_not_at_all(tmp_path: Path):
    seen = []

    def chunks() -> Any:
        for frame in disk():
            seen.append([name.name for name in tmp_path.iterdir() if not name.name.startswith(".txt2video-")])
            yield frame[None]

    settings = Encoding(width=40, height=24, fps=8)
    path = save(chunks(), tmp_path, ["a"], writer=WRITERS["png-sequence"], encoding=settings)
    assert seen == [[]] * 6
    assert [child.name for child in sorted(path.iterdir())] == [f"{number:05d}.png" for number in range(6)]
    assert [child.name for child in tmp_path.iterdir()] == ["a"]


def test_a_folder_never_takes_the_place_of_another(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").touch()
    with temporary_folder(tmp_path) as folder:
        (folder / "x").write_text("mine")
        assert publish(folder, ["a", "b", "c"]) == tmp_path / "c"
    assert (tmp_path / "c" / "x").read_text() == "mine"
    assert list((tmp_path / "a").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_what_a_killed_process_left_of_a_folder_is_removed(tmp_path: Path):
    ended = subprocess.Popen([executable(), "-version"], stdout=subprocess.DEVNULL)
    ended.wait()
    with temporary_folder(tmp_path) as running:
        host = running.name.split("-")[1]
        left = tmp_path / f".txt2video-{host}-{ended.pid}-00000000.pictures"
        left.mkdir()
        (left / "00000.png").touch()
        remove_abandoned(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [running.name]


def test_a_folder_of_other_things_is_no_clip(tmp_path: Path):
    (tmp_path / "notes.txt").touch()
    for read in (read_metadata, probe, read_frames):
        with pytest.raises(UnreadableFileError, match="is a folder"):
            read(tmp_path)
