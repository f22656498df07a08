"""What every row of the WRITERS table must do."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2v_core.errors import OutputError
from t2v_core.media import PRESETS, WRITERS, Encoding, Writer
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


@pytest.fixture(params=WRITERS.values(), ids=WRITERS)
def writer(request: pytest.FixtureRequest) -> Writer:
    return request.param


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


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_the_row_is_whole(writer: Writer):
    assert WRITERS[writer.name] is writer
    assert writer.suffix.startswith(".")
    assert writer.help.endswith(".")
    assert importlib.util.find_spec(writer.module) is not None
    assert callable(writer.load())


def test_a_requests_defaults_are_in_the_tables():
    assert GenerationRequest().format in WRITERS
    assert GenerationRequest().preset in PRESETS


@pytest.mark.parametrize("count", [1, 2, 7, 8, 16, 24, 25])
@pytest.mark.parametrize("fps", [1, 8, 12.5, 23.976, 24, Fraction(30000, 1001), 60, 120])
def test_every_frame_is_there_at_the_exact_rate(writer: Writer, tmp_path: Path, fps: float | Fraction, count: int):
    path = save([numbered(count)], tmp_path, ["a"], writer=writer, encoding=encoding(fps=fps))
    found = probe(path)
    assert found.frames == count
    assert found.fps == (fps if isinstance(fps, Fraction) else Fraction(str(fps)))
    assert found.duration == count / found.fps


def test_the_frames_are_the_ones_that_were_given(writer: Writer, tmp_path: Path):
    frames = numbered(25)
    path = save([frames], tmp_path, ["a"], writer=writer, encoding=encoding())
    again = read_frames(path)
    assert again.shape == frames.shape
    assert np.abs(again.astype(int) - frames).max() <= 3


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_writes(writer: Writer, tmp_path: Path, preset: str):
    path = save([numbered(2)], tmp_path, ["a"], writer=writer, encoding=encoding(preset=preset))
    assert probe(path).frames == 2


@pytest.mark.parametrize(("width", "height"), [(8, 8), (8, 64), (264, 40), (24, 1024)])
def test_sizes_that_are_multiples_of_8(writer: Writer, tmp_path: Path, width: int, height: int):
    frames = numbered(2, width=width, height=height)
    path = save([frames], tmp_path, ["a"], writer=writer, encoding=encoding(width=width, height=height))
    assert (probe(path).width, probe(path).height) == (width, height)
    assert read_frames(path).shape == frames.shape


@pytest.mark.parametrize("text", INFOTEXTS, ids=lambda text: ascii(text[:16]))
def test_the_infotext_comes_back_exactly(writer: Writer, tmp_path: Path, text: str):
    path = save([numbered(1)], tmp_path, ["a"], writer=writer, encoding=encoding(infotext=text))
    assert (read_metadata(path) or "") == text


def test_how_the_frames_are_cut_into_chunks_changes_nothing(writer: Writer, tmp_path: Path):
    frames = numbered(7)
    cuts = ([frames], [frames[:3], frames[3:]], iter(frames[:, None]), [frames[:0], frames, frames[:0]])
    files = [save(chunks, tmp_path, [f"{i}"], writer=writer, encoding=encoding()) for i, chunks in enumerate(cuts)]
    assert len({file.read_bytes() for file in files}) == 1


def test_frames_that_do_not_lie_in_order_in_memory_are_written_right(writer: Writer, tmp_path: Path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 32), dtype=np.uint8).transpose(0, 2, 3, 1)
    assert not frames.flags["C_CONTIGUOUS"]
    paths = [
        save([some], tmp_path, [f"{i}"], writer=writer, encoding=encoding())
        for i, some in enumerate((frames, np.ascontiguousarray(frames)))
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_stream_that_ends_early_is_a_whole_file(writer: Writer, tmp_path: Path):
    path = save(iter([numbered(3)]), tmp_path, ["a"], writer=writer, encoding=encoding())
    assert probe(path).frames == 3


def test_frames_are_taken_as_they_come(writer: Writer, tmp_path: Path, started: list[subprocess.Popen[Any]]):
    """The encoder is there before the last frame, so a long video needs no memory for its frames."""
    running = []

    def chunks() -> Iterator[Frames]:
        for _ in range(3):
            running.append([process.poll() for process in started])
            yield numbered(1)

    save(chunks(), tmp_path, ["a"], writer=writer, encoding=encoding())
    assert None in running[0]
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt(), OSError("mine"), GeneratorExit()])
@pytest.mark.parametrize("after", [0, 1, 40])
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
    writer: Writer, tmp_path: Path, started: list[subprocess.Popen[Any]]
):
    def chunks() -> Iterator[Frames]:
        yield numbered(1)
        started[0].kill()
        while True:
            yield numbered(40)

    with pytest.raises(OutputError, match="encoder failed"):
        save(chunks(), tmp_path, ["a"], writer=writer, encoding=encoding())
    assert names(tmp_path) == []
    assert all(process.returncode is not None for process in started)


def test_an_encoder_that_dies_at_the_end_leaves_nothing(
    writer: Writer, tmp_path: Path, started: list[subprocess.Popen[Any]]
):
    def chunks() -> Iterator[Frames]:
        yield numbered(1)
        started[0].kill()

    with pytest.raises(OutputError, match="encoder failed"):
        save(chunks(), tmp_path, ["a"], writer=writer, encoding=encoding())
    assert names(tmp_path) == []


def test_no_frames_are_no_video(writer: Writer, tmp_path: Path):
    with pytest.raises(OutputError, match="no frames"):
        save([], tmp_path, ["a"], writer=writer, encoding=encoding())
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "chunk",
    [
        np.zeros((1, 16, 40, 3), np.uint8),
        np.zeros((1, 32, 16, 3), np.uint8),
        np.zeros((16, 32, 3), np.uint8),
        np.zeros((1, 16, 32, 4), np.uint8),
        np.zeros((1, 16, 32, 3), np.float32),
    ],
    ids=lambda chunk: f"{chunk.shape} {chunk.dtype}",
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
    "name",
    [
        "-i",
        "-y -f null",
        "concat:a|b",
        "http:x",
        "file:x",
        "pipe:1",
        "%03d",
        "a b;c&d",
        "$(x)",
        "'q' \"q\"",
        "猫 é",
        "l\nm",
    ],
)
def test_names_mean_nothing_to_the_encoder(writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.chdir(tmp_path)
    folder = Path(name)
    path = save([numbered(2)], folder, [name], writer=writer, encoding=encoding(infotext=name))
    assert names(tmp_path) == [name]
    assert names(folder) == [name]
    assert read_metadata(path) == name
    assert probe(path).frames == len(read_frames(path)) == 2


def test_the_same_frames_make_the_same_file(writer: Writer, tmp_path: Path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    settings = encoding(width=64, height=64, infotext="x")
    files = [save([frames], tmp_path, [str(i)], writer=writer, encoding=settings).read_bytes() for i in range(2)]
    assert files[0] == files[1]
