"""What every row of the WRITERS table must do."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2v_core.errors import OutputError
from t2v_core.media import PRESETS, WRITERS, Encoding, Writer
from t2v_core.media.ffmpeg import executable, local_file
from t2v_core.media.output import save
from t2v_core.media.reading import probe, read_frames, read_metadata
from t2v_core.request import GenerationRequest
from t2v_core.video import Frames

INFOTEXTS = [
    "",
    "a cat",
    "a cat\nNegative prompt: dog\nSteps: 25, Sampler: DPM++ 2M, Seed: 1",
    '{"k": [1, 2], "s": "a=b;c#d\\\\e\\nf"}' * 400,
    "=;#\\\n[STREAM]\ncomment=x\n;y\n#z\n\\\\\n\\",
    " leading, trailing and\r\n\rcarriage returns \n\n",
    "一只猫\n在月球上；跳舞＝🐱🚀 قطة",
    "x" * 300_000,
]


FILMS = [writer for writer in WRITERS.values() if writer.module == "t2v_core.media.film"]
SEQUENCES = [writer for writer in WRITERS.values() if writer.is_folder]

# Seconds that a format's durations are off at most: it counts in hundredths, thousandths, or, as ffmpeg reads it,
# hundred-thousandths of a second a frame. Files of single pictures have no times.
TICKS = {"gif": 0.006, "webp": 0.0006, "webm": 0.0015, "webm-av1": 0.0015, "apng": 0.0006}
TIMELESS = {"png-sequence", "jpeg-sequence", "png"}
FASTEST = {"gif": 50, "webp": 90}
"""Formats that a browser shows in slow motion where they are faster; of such clips frames are left out."""

NO_ODD_SIZES = {"mp4", "mp4-h265", "avi"}
LEAST_SIDE = {"mp4-h265": 16}


@pytest.fixture(params=WRITERS.values(), ids=lambda writer: writer.name)
def writer(request: pytest.FixtureRequest) -> Writer:
    return request.param


@pytest.fixture(params=FILMS, ids=lambda writer: writer.name)
def film(request: pytest.FixtureRequest) -> Writer:
    return request.param


def thoroughly(few: list[Any], rest: list[Any]) -> list[Any]:
    """Every case for mp4, which stands for all that ffmpeg writes, and a few for each other format."""
    return [(WRITERS["mp4"], *each) for each in few + rest] + [
        (writer, *each) for writer in WRITERS.values() if writer.name != "mp4" for each in few
    ]


def named(value: Any) -> str:
    """A case's name among the tests."""
    return value.name if isinstance(value, Writer) else ascii(value)


def kept(writer: Writer, count: int) -> int:
    """How many of so many frames a format holds."""
    return 1 if writer.name == "png" else count


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[Any]]:
    """Every process that the test starts."""
    processes: list[subprocess.Popen[Any]] = []

    class Recorded(subprocess.Popen):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    return processes


def numbered(count: int, *, width: int = 32, height: int = 16) -> Frames:
    """Frames that say which they are: flat, each 10 levels lighter than the one before."""
    return np.stack([np.full((height, width, 3), 10 * (i % 25), np.uint8) for i in range(count)])


def encoding(**changes: Any) -> Encoding:
    return Encoding(**({"width": 32, "height": 16, "fps": 8, "crf": 5, "preset": "ultrafast"} | changes))


def content(path: Path) -> bytes:
    """All that is in a file, or in a folder of files."""
    return b"".join(child.read_bytes() for child in sorted(path.iterdir())) if path.is_dir() else path.read_bytes()


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_the_row_is_whole(writer: Writer):
    assert WRITERS[writer.name] is writer
    assert writer.is_folder or writer.suffix.startswith(".")
    assert writer.help.endswith(".")
    assert writer.colors
    assert importlib.util.find_spec(writer.module) is not None
    assert callable(writer.load())


def test_a_requests_defaults_are_in_the_tables():
    assert GenerationRequest().format in WRITERS
    assert GenerationRequest().preset in PRESETS


@pytest.mark.parametrize(
    ("fps", "count"), [(1, 1), (8, 1), (8, 7), (12.5, 24), (23.976, 25), (24, 24), (Fraction(30000, 1001), 16), (50, 8)]
)
def test_every_frame_is_there_at_the_right_rate(writer: Writer, tmp_path: Path, fps: float | Fraction, count: int):
    path = save([numbered(count)], tmp_path, ["a"], writer=writer, encoding=encoding(fps=fps))
    found, rate = probe(path), encoding(fps=fps).rate
    assert found.frames == kept(writer, count)
    if writer.name in TIMELESS:
        assert found.fps == found.duration == 0
    elif writer.name in TICKS:
        assert float(found.duration) == pytest.approx(count / rate, abs=TICKS[writer.name])
    else:
        assert found.fps == rate
        assert found.duration == count / rate


@pytest.mark.parametrize("count", [2, 8, 16, 24, 25])
@pytest.mark.parametrize("fps", [1, 12.5, 23.976, 24, Fraction(30000, 1001), 60, 120])
def test_an_mp4s_rate_is_exact(tmp_path: Path, fps: float | Fraction, count: int):
    test_every_frame_is_there_at_the_right_rate(WRITERS["mp4"], tmp_path, fps, count)


@pytest.mark.parametrize("name", FASTEST)
def test_what_a_browser_would_slow_down_keeps_its_length(tmp_path: Path, name: str):
    path = save([numbered(24)], tmp_path, ["a"], writer=WRITERS[name], encoding=encoding(fps=120))
    assert probe(path).frames == round(24 * FASTEST[name] / 120)
    assert float(probe(path).duration) == pytest.approx(24 / 120, abs=0.01)


def test_the_frames_are_the_ones_that_were_given(writer: Writer, tmp_path: Path):
    frames = numbered(25)
    path = save([frames], tmp_path, ["a"], writer=writer, encoding=encoding())
    again = read_frames(path)
    assert again.shape == (kept(writer, 25), *frames.shape[1:])
    assert np.abs(again.astype(int) - frames[: len(again)]).max() <= 2


def plain(count: int = 8, *, height: int = 64, width: int = 96) -> Frames:
    """Another strong color in each frame."""
    colors = [(200, 30, 90), (0, 0, 255), (255, 255, 0), (128, 128, 128), (10, 240, 20), (255, 0, 0), (0, 0, 0)]
    return np.stack([np.full((height, width, 3), colors[i % len(colors)], np.uint8) for i in range(count)])


def shapes(count: int = 8, *, height: int = 64, width: int = 96) -> Frames:
    """A red disk and a green box on blue, of which the disk moves."""
    y, x = np.mgrid[:height, :width]
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[:] = (40, 60, 160)
    frames[:, 10:26, 60:86] = (40, 200, 70)
    for number, frame in enumerate(frames):
        frame[(x - 20 - 2 * number) ** 2 + (y - 30) ** 2 < 14**2] = (230, 40, 30)
    return frames


def gradients(count: int = 8, *, height: int = 64, width: int = 96) -> Frames:
    """A sky that gets lighter, less than 255 colors a frame."""
    y = np.mgrid[:height, :width][0]
    sky = np.stack([60 + y, 110 + y * 0.8, 200 + y * 0.6], axis=-1)
    return np.stack([(sky + 2 * number).clip(0, 255).astype(np.uint8) for number in range(count)])


def inside(frames: Frames, *, margin: int = 8) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where a pixel is as all around it are, (f, h, w): no codec blurs an edge over it."""
    same = np.ones(frames.shape[:3], bool)
    for down in range(-margin, margin + 1, 4):
        for right in range(-margin, margin + 1, 4):
            same &= (np.roll(frames, (down, right), axis=(1, 2)) == frames).all(axis=-1)
    return same


def test_plain_colors_come_back_within_two_levels_at_the_usual_quality(writer: Writer, tmp_path: Path):
    frames = plain()
    path = save([frames], tmp_path, ["a"], writer=writer, encoding=encoding(width=96, height=64, crf=17))
    again = read_frames(path)
    assert np.abs(again.astype(int) - frames[: len(again)]).max() <= 2


def test_the_insides_of_shapes_come_back_within_two_levels(writer: Writer, tmp_path: Path):
    frames = shapes()
    settings = encoding(width=96, height=64, crf=10, preset="medium")
    again = read_frames(save([frames], tmp_path, ["a"], writer=writer, encoding=settings))
    off = np.abs(again.astype(int) - frames[: len(again)]).max(axis=-1)
    assert np.percentile(off[inside(frames)[: len(again)]], 99) <= 2


def test_gradients_come_back_within_two_levels(writer: Writer, tmp_path: Path):
    frames = gradients()
    settings = encoding(width=96, height=64, crf=10, preset="medium")
    again = read_frames(save([frames], tmp_path, ["a"], writer=writer, encoding=settings))
    off = np.abs(again.astype(int) - frames[: len(again)])
    assert np.percentile(off, 99) <= 2
    assert off.mean() <= 1


@pytest.mark.parametrize("name", ["webp", "apng", "png-sequence", "png", "gif"])
def test_what_is_without_loss_is_exact(tmp_path: Path, name: str):
    frames = shapes() if name == "gif" else np.random.default_rng(0).integers(0, 256, (3, 16, 32, 3), dtype=np.uint8)
    settings = encoding(width=frames.shape[2], height=frames.shape[1], crf=0)
    again = read_frames(save([frames], tmp_path, ["a"], writer=WRITERS[name], encoding=settings))
    assert np.array_equal(again, frames[: len(again)])


def test_a_film_names_its_colors(film: Writer, tmp_path: Path):
    path = save([plain()], tmp_path, ["a"], writer=film, encoding=encoding(width=96, height=64))
    said = subprocess.run(
        [executable(), "-hide_banner", "-i", local_file(path)], capture_output=True, check=False
    ).stderr.decode()
    assert re.search(r"Video: .*\((tv, )?bt709", said), said


def test_quality_decides_about_size(writer: Writer, tmp_path: Path):
    if writer.name in ("gif", "apng", "png-sequence", "png"):
        pytest.skip("its quality is always the same")
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    sizes = []
    for crf in (0, 17, 40):
        settings = encoding(width=64, height=64, crf=crf)
        path = save([frames], tmp_path, [str(crf)], writer=writer, encoding=settings)
        sizes.append(sum(part.stat().st_size for part in (path.iterdir() if path.is_dir() else [path])))
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("preset", ["ultrafast", "medium", "veryslow"])
def test_every_preset_writes(writer: Writer, tmp_path: Path, preset: str):
    path = save([numbered(2)], tmp_path, ["a"], writer=writer, encoding=encoding(preset=preset))
    assert probe(path).frames == kept(writer, 2)


def test_each_of_h264s_presets_writes(tmp_path: Path):
    for preset in PRESETS:
        test_every_preset_writes(WRITERS["mp4"], tmp_path / preset, preset)


@pytest.mark.parametrize(("width", "height"), [(8, 8), (8, 64), (264, 40), (24, 1024)])
def test_sizes_that_are_multiples_of_8(writer: Writer, tmp_path: Path, width: int, height: int):
    if min(width, height) < LEAST_SIDE.get(writer.name, 1):
        pytest.skip("the encoder refuses it")
    frames = numbered(2, width=width, height=height)
    path = save([frames], tmp_path, ["a"], writer=writer, encoding=encoding(width=width, height=height))
    assert (probe(path).width, probe(path).height) == (width, height)
    assert read_frames(path).shape[1:] == frames.shape[1:]


@pytest.mark.parametrize(("width", "height"), [(33, 32), (32, 17), (65, 31), (1, 1)])
def test_odd_sizes_are_exact_or_refused_before_anything_is_written(
    writer: Writer, tmp_path: Path, width: int, height: int
):
    frames, settings = numbered(2, width=width, height=height), encoding(width=width, height=height)
    if writer.name in NO_ODD_SIZES:
        with pytest.raises(OutputError, match="even width and height"):
            save([frames], tmp_path, ["a"], writer=writer, encoding=settings)
        assert names(tmp_path) == []
    else:
        path = save([frames], tmp_path, ["a"], writer=writer, encoding=settings)
        assert (probe(path).width, probe(path).height) == (width, height)
        assert np.abs(read_frames(path).astype(int) - frames[: kept(writer, 2)]).max() <= 2


@pytest.mark.parametrize("text", INFOTEXTS, ids=lambda text: ascii(text[:16]))
def test_the_infotext_comes_back_exactly(writer: Writer, tmp_path: Path, text: str):
    path = save([numbered(1)], tmp_path, ["a"], writer=writer, encoding=encoding(infotext=text))
    assert (read_metadata(path) or "") == text


def test_how_the_frames_are_cut_into_chunks_changes_nothing(writer: Writer, tmp_path: Path):
    frames = numbered(7)
    cuts = ([frames], [frames[:3], frames[3:]], iter(frames[:, None]), [frames[:0], frames, frames[:0]])
    files = [save(chunks, tmp_path, [f"{i}"], writer=writer, encoding=encoding()) for i, chunks in enumerate(cuts)]
    assert len(set(map(content, files))) == 1


def test_frames_that_do_not_lie_in_order_in_memory_are_written_right(writer: Writer, tmp_path: Path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 32), dtype=np.uint8).transpose(0, 2, 3, 1)
    assert not frames.flags["C_CONTIGUOUS"]
    paths = [
        save([some], tmp_path, [f"{i}"], writer=writer, encoding=encoding())
        for i, some in enumerate((frames, np.ascontiguousarray(frames)))
    ]
    assert content(paths[0]) == content(paths[1])


def test_a_stream_that_ends_early_is_a_whole_file(writer: Writer, tmp_path: Path):
    path = save(iter([numbered(3)]), tmp_path, ["a"], writer=writer, encoding=encoding())
    assert probe(path).frames == kept(writer, 3)


def test_frames_are_taken_as_they_come(film: Writer, tmp_path: Path, started: list[subprocess.Popen[Any]]):
    """The encoder is there before the last frame, so a long video needs no memory for its frames."""
    running = []

    def chunks() -> Iterator[Frames]:
        for _ in range(3):
            running.append([process.poll() for process in started])
            yield numbered(1)

    save(chunks(), tmp_path, ["a"], writer=film, encoding=encoding())
    assert None in running[0]
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("writer", "error", "after"),
    thoroughly(
        [(OSError("mine"), 1), (KeyboardInterrupt(), 40)],
        [(error, after) for error in (RuntimeError("mine"), OSError("mine"), GeneratorExit()) for after in (0, 1, 40)],
    ),
    ids=named,
)
def test_an_exception_between_frames_passes_through_and_leaves_nothing(
    writer: Writer, tmp_path: Path, started: list[subprocess.Popen[Any]], error: BaseException, after: int
):
    def chunks() -> Iterator[Frames]:
        if after:
            yield numbered(after)
        raise error

    with pytest.raises(type(error)) as caught:
        save(chunks(), tmp_path, ["a"], writer=writer, encoding=encoding())
    assert caught.value is error
    assert names(tmp_path) == []
    assert all(process.returncode is not None for process in started)


def test_an_encoder_that_dies_is_one_sentence_and_leaves_nothing(
    film: Writer, tmp_path: Path, started: list[subprocess.Popen[Any]]
):
    def chunks() -> Iterator[Frames]:
        yield numbered(1)
        started[0].kill()
        while True:
            yield numbered(40)

    with pytest.raises(OutputError, match="encoder failed"):
        save(chunks(), tmp_path, ["a"], writer=film, encoding=encoding())
    assert names(tmp_path) == []
    assert all(process.returncode is not None for process in started)


def test_an_encoder_that_dies_at_the_end_leaves_nothing(
    film: Writer, tmp_path: Path, started: list[subprocess.Popen[Any]]
):
    def chunks() -> Iterator[Frames]:
        yield numbered(1)
        started[0].kill()

    with pytest.raises(OutputError, match="encoder failed"):
        save(chunks(), tmp_path, ["a"], writer=film, encoding=encoding())
    assert names(tmp_path) == []


def test_no_frames_are_no_video(writer: Writer, tmp_path: Path):
    with pytest.raises(OutputError, match="no frames"):
        save([], tmp_path, ["a"], writer=writer, encoding=encoding())
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("writer", "chunk"),
    thoroughly(
        [(np.zeros((1, 16, 40, 3), np.uint8),)],
        [
            (np.zeros((1, 32, 16, 3), np.uint8),),
            (np.zeros((16, 32, 3), np.uint8),),
            (np.zeros((1, 16, 32, 4), np.uint8),),
            (np.zeros((1, 16, 32, 3), np.float32),),
        ],
    ),
    ids=lambda value: value.name if isinstance(value, Writer) else f"{value.shape} {value.dtype}",
)
def test_frames_of_another_shape_are_refused(writer: Writer, tmp_path: Path, chunk: Any):
    with pytest.raises(ValueError, match="frames are"):
        save([numbered(1), chunk], tmp_path, ["a"], writer=writer, encoding=encoding())
    assert names(tmp_path) == []


def test_a_taken_name_is_never_overwritten(writer: Writer, tmp_path: Path):
    (tmp_path / "a").write_text("mine")
    assert save([numbered(1)], tmp_path, ["a", "b"], writer=writer, encoding=encoding()) == tmp_path / "b"
    with pytest.raises(OutputError, match="is there already"):
        save([numbered(1)], tmp_path, ["a", "b"], writer=writer, encoding=encoding())
    assert (tmp_path / "a").read_text() == "mine"
    assert names(tmp_path) == ["a", "b"]


@pytest.mark.skipif(os.name == "nt", reason="Windows refuses most of these names itself")
@pytest.mark.parametrize(
    ("writer", "name"),
    thoroughly(
        [("-i",), ("猫 é",)],
        [
            *(("-y -f null",), ("concat:a|b",), ("http:x",), ("file:x",), ("pipe:1",), ("%03d",)),
            *(("a b;c&d",), ("$(x)",), ("'q' \"q\"",), ("l\nm",)),
        ],
    ),
    ids=named,
)
def test_names_mean_nothing_to_the_encoder(writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.chdir(tmp_path)
    folder = Path(name)
    path = save([numbered(2)], folder, [name], writer=writer, encoding=encoding(infotext=name))
    assert names(tmp_path) == [name]
    assert names(folder) == [name]
    assert read_metadata(path) == name
    assert probe(path).frames == len(read_frames(path)) == kept(writer, 2)


def test_the_same_frames_make_the_same_file(writer: Writer, tmp_path: Path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    settings = encoding(width=64, height=64, infotext="x")
    files = [content(save([frames], tmp_path, [str(i)], writer=writer, encoding=settings)) for i in range(2)]
    assert files[0] == files[1]
