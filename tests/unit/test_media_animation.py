"""Animations move, loop, keep their size and time, and pass for a still picture where a host wants one."""

from __future__ import annotations

import base64
import copy
import io
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from t2v_core.media.animation import FORMATS, LIVE_SIDE, MovingImage, animation, moving_image


def clip(frames=5, height=9, width=16):
    """A bright column that runs to the right over a gradient."""
    down = np.linspace(0, 200, height, dtype=np.uint8)[None, :, None, None]
    pictures = np.broadcast_to(down, (frames, height, width, 3)).copy()
    for index in range(frames):
        pictures[index, :, 3 * index : 3 * index + 3] = (250, 200, 40)
    return pictures


def opened(content):
    return Image.open(io.BytesIO(content))


def pictures_of(content):
    return [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(opened(content))]


@pytest.mark.parametrize("format", FORMATS)
def test_every_frame_is_there_in_order_and_looks_like_the_original(format):
    frames = clip()
    content = animation(frames, 8, format=format, longest_side=64)
    assert opened(content).format == format.upper()
    assert opened(content).is_animated
    shown = pictures_of(content)
    assert len(shown) == 5
    for original, picture in zip(frames, shown, strict=True):
        assert picture.shape == (36, 64, 3)
        wanted = np.array(Image.fromarray(original).resize((64, 36), Image.Resampling.BICUBIC))
        assert np.abs(picture.astype(int) - wanted).mean() < (0.01 if format == "png" else 8)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("fps", "seconds"), [(8, 5 / 8), (24, 5 / 24), (7.5, 5 / 7.5), (1000, 0.055)])
def test_it_loops_without_end_and_lasts_as_long_as_the_clip(format, fps, seconds):
    content = animation(clip(), fps, format=format, longest_side=32)
    image, lasts = opened(content), []
    for index in range(5):
        image.seek(index)
        image.load()
        lasts.append(image.info["duration"])
    assert image.info["loop"] == 0
    assert sum(lasts) == pytest.approx(seconds * 1000, abs=1)
    assert min(lasts) > 10


@given(
    frames=st.integers(1, 4), height=st.integers(1, 40), width=st.integers(1, 40), side=st.integers(1, 80),
    format=st.sampled_from(FORMATS),
)  # fmt: skip
def test_every_shape_keeps_its_aspect_and_reaches_the_side(frames, height, width, side, format):
    pictures = np.random.default_rng(height).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    image = opened(animation(pictures, 8, format=format, longest_side=side))
    assert max(image.size) == side
    assert min(image.size) == max(1, round(min(height, width) * side / max(height, width)))


def test_the_apng_holds_every_pixel_as_it_is():
    frames = np.random.default_rng(0).integers(0, 256, (3, 7, 16, 3), dtype=np.uint8)
    shown = pictures_of(animation(frames, 8, format="png", longest_side=16))
    assert np.array_equal(np.stack(shown), frames)


def test_what_cannot_move_is_refused_by_name():
    with pytest.raises(ValueError, match="'jpeg' can't hold a moving picture"):
        animation(clip(), 8, format="jpeg")


@pytest.mark.parametrize(
    "frames", [np.zeros((0, 4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3))]
)
def test_what_is_no_clip_is_refused(frames):
    with pytest.raises(ValueError, match=r"\(f, h, w, 3\)"):
        animation(frames, 8, format="png")


# --- as a still picture ---------------------------------------------------------------------------------------------

WEBUI_OPTIONS = {"png": {"optimize": True}, "jpeg": {}, "webp": {}}
"""What the WebUI's live preview gives to `save` for each of its formats."""


@pytest.mark.parametrize(("asked", "written"), [("png", "PNG"), ("PNG", "PNG"), ("jpeg", "WEBP"), ("webp", "WEBP")])
def test_a_host_that_saves_a_still_picture_gets_the_whole_clip(asked, written):
    buffer = io.BytesIO()
    moving_image(clip(), 8).save(buffer, format=asked, **WEBUI_OPTIONS[asked.lower()])
    image = opened(base64.b64decode(base64.b64encode(buffer.getvalue())))
    assert (image.format, image.n_frames, max(image.size)) == (written, 5, LIVE_SIDE)


def test_it_behaves_as_its_first_frame():
    image = moving_image(clip(), 8)
    first = Image.fromarray(clip()[0]).resize((128, 72), Image.Resampling.BICUBIC)
    assert isinstance(image, Image.Image)
    assert (image.size, image.mode, image.width, image.height) == ((128, 72), "RGB", 128, 72)
    assert np.array_equal(np.asarray(image), np.asarray(first))
    assert image.getpixel((5, 5)) == first.getpixel((5, 5))
    assert image.tobytes() == first.tobytes()
    assert image.convert("L").size == image.size


@pytest.mark.parametrize(
    "still",
    [
        lambda image: image.copy(),
        lambda image: image.resize((8, 4)),
        copy.copy,
        lambda image: pickle.loads(pickle.dumps(image)),
    ],
    ids=["copy", "resize", "copy.copy", "pickle"],
)
def test_what_is_made_of_it_is_an_ordinary_still_picture(still):
    buffer = io.BytesIO()
    still(moving_image(clip(), 8)).save(buffer, format="jpeg")
    assert opened(buffer.getvalue()).format == "JPEG"


def test_it_can_be_saved_under_a_name(tmp_path):
    for name, written in (("a.png", "PNG"), ("a.webp", "WEBP")):
        moving_image(clip(), 8).save(tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert (image.format, image.is_animated) == (written, True)


def test_nothing_but_its_first_frame_is_scaled_before_it_is_saved(monkeypatch):
    scaled = []
    monkeypatch.setattr("t2v_core.media.animation.animation", lambda *args, **options: scaled.append(options) or b"")
    image: MovingImage = moving_image(clip(), 8)
    assert not scaled
    image.save(io.BytesIO(), format="png")
    assert scaled == [{"format": "png", "longest_side": 128}]
