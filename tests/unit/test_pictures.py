"""Pictures of any mode, size and turn become frames of the clip's size, and masks say where a clip may change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_files import animation, bomb, content, cut, picture, turned
from PIL import Image

from t2v_core.errors import UnreadableFileError
from t2v_core.media.masks import Edge, changeable
from t2v_core.media.pictures import picture_facts, read_marks, read_picture
from t2v_core.media.placing import place

COLOUR = np.random.default_rng(1).integers(0, 256, (40, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I"])
def test_a_picture_of_any_mode_is_read_in_its_own_light(tmp_path: Path, mode: str):
    name = "a.tif" if mode in ("CMYK", "I") else "a.png"
    if mode == "I":
        Image.fromarray(COLOUR[..., 0].astype(np.int32) * 257).save(tmp_path / name)
    else:
        picture(mode)(tmp_path / name)
    found = read_picture(tmp_path / name, width=48, height=40, fit="crop")
    assert found.shape == (40, 48, 3)
    wanted = COLOUR[..., :1].repeat(3, axis=-1) if mode in ("I;16", "I") else None
    if mode in ("RGB", "RGBA"):
        assert (found == COLOUR).all()
    elif wanted is not None:
        assert np.abs(found.astype(int) - wanted).max() <= 1
    else:
        assert 60 < found.mean() < 200


def test_floating_point_is_read_too(tmp_path: Path):
    Image.fromarray(np.linspace(0, 1, 48 * 40, dtype=np.float32).reshape(40, 48)).save(tmp_path / "a.tif")
    found = read_picture(tmp_path / "a.tif", width=48, height=40, fit="crop")
    assert found[0, 0, 0] == 0
    assert found[-1, -1, 0] == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_as_the_camera_was_held(tmp_path: Path, orientation: int):
    turned(orientation)(tmp_path / "a.jpg")
    facts = picture_facts(tmp_path / "a.jpg")
    assert facts is not None
    assert (facts.width, facts.height) == ((40, 48) if orientation > 4 else (48, 40))


def test_transparent_places_are_white(tmp_path: Path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (read_picture(tmp_path / "a.png", width=8, height=8, fit="crop") == 255).all()


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_of_an_animation_the_first_frame_is_a_picture(tmp_path: Path, name: str):
    animation(3, duration=100)(tmp_path / name)
    assert read_picture(tmp_path / name, width=48, height=40, fit="crop")[0, 0].tolist() == pytest.approx(
        [0, 255, 40], abs=12
    )
    facts = picture_facts(tmp_path / name)
    assert facts is not None
    assert len(facts.durations) == 3


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 4000), (4000, 1), (3, 5), (257, 255)])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_any_size_comes_to_the_clips_size(tmp_path: Path, width: int, height: int, fit: str):
    Image.new("RGB", (width, height), (250, 128, 5)).save(tmp_path / "a.png")
    found = read_picture(tmp_path / "a.png", width=64, height=48, fit=fit)
    assert found.shape == (48, 64, 3)
    assert found.reshape(-1, 3).max(axis=0).tolist() == [250, 128, 5]
    if fit != "pad":
        assert found.reshape(-1, 3).min(axis=0).tolist() == [250, 128, 5]


def test_what_fits_already_is_not_touched():
    for fit in ("crop", "pad", "stretch"):
        placing = place(64, 48, into=(64, 48), fit=fit)
        assert (placing.width, placing.height, placing.left, placing.top) == (64, 48, 0, 0)
    assert place(66, 48, into=(64, 48), fit="crop").left == 1


@pytest.mark.parametrize("make", [cut(picture(), keep=0.5), bomb], ids=["cut", "bomb"])
def test_a_damaged_or_a_giant_picture_is_one_sentence(tmp_path: Path, make: Any):
    make(tmp_path / "a.png")
    with pytest.raises(UnreadableFileError) as caught:
        read_picture(tmp_path / "a.png", width=8, height=8, fit="crop")
    assert "a.png" in caught.value.problem
    assert "\n" not in caught.value.problem


def test_what_is_no_picture_is_none(tmp_path: Path):
    content(b"text")(tmp_path / "a.png")
    assert picture_facts(tmp_path / "a.png") is None


def square(size: int = 21, side: int = 7) -> np.ndarray:
    """A marked square in the middle."""
    marks = np.zeros((1, size, size), np.uint8)
    first = (size - side) // 2
    marks[0, first : first + side, first : first + side] = 255
    return marks


def test_growing_and_shrinking_move_the_edge_by_pixels():
    for grow in range(-3, 6):
        row = changeable(square(), Edge(grow=grow))[0, 10]
        assert (row == 255).sum() == 7 + 2 * grow
        assert set(row.tolist()) == {0, 255}


def test_the_feather_lies_inside_so_that_what_stays_is_exact():
    soft = changeable(square(41, 21), Edge(feather=4))
    assert (soft[square(41, 21) == 0] == 0).all()
    row = soft[0, 20, 10:31].tolist()
    assert row == row[::-1]
    assert row[:6] == [51, 102, 153, 204, 255, 255]


def test_the_border_of_the_picture_is_no_edge():
    assert (changeable(np.full((2, 9, 9), 255, np.uint8), Edge(feather=5)) == 255).all()


def test_what_is_kept_stays_exactly_and_the_rest_changes():
    kept = changeable(square(), Edge(keeps=True, feather=2))
    assert (kept[square() == 255] == 0).all()
    assert kept[0, 0, 0] == 255


def test_compression_does_not_soften_a_mask():
    marks = square()
    noisy = np.where(marks == 255, 247, 6).astype(np.uint8)
    assert (changeable(noisy, Edge()) == marks).all()


def test_strokes_on_a_transparent_picture_are_the_mask_whatever_their_colour(tmp_path: Path):
    drawn = np.zeros((40, 48, 4), np.uint8)
    drawn[10:20, 10:20, 3] = 255
    Image.fromarray(drawn).save(tmp_path / "a.png")
    marks = read_marks(tmp_path / "a.png", width=48, height=40, fit="crop")
    assert marks[15, 15] == 255
    assert marks[30, 30] == 0
    Image.fromarray(drawn[..., 3]).save(tmp_path / "b.png")
    assert (read_marks(tmp_path / "b.png", width=48, height=40, fit="crop") == marks).all()
