"""One clip in several files: made once, named alike, and whatever goes wrong, what there is is kept."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
import sys
import threading
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2v_core import saving, service
from t2v_core.errors import DiskFullError, OutputError, RequestError
from t2v_core.media import WRITERS, film_codecs, several, stills
from t2v_core.media.ffmpeg import executable, local_file
from t2v_core.media.naming import Placement
from t2v_core.media.output import endings
from t2v_core.media.reading import probe, read_frames, read_metadata
from t2v_core.media.several import Attempt, write_all
from t2v_core.postprocess import Footage
from t2v_core.rendering.fake import IDENTITY, FakeRenderer
from t2v_core.request import GenerationRequest
from t2v_core.run import ClipSaved, Event, Notice, Progress, Run, Stage
from t2v_core.saving import Saver
from t2v_core.video import Frames, Video

ROOT = os.name != "nt" and os.geteuid() == 0
FRAMES = np.stack([np.full((16, 32, 3), 10 * number, np.uint8) for number in range(12)])


def saved(
    folder: Path,
    *,
    frames: Any = FRAMES,
    run: Run | None = None,
    placement: Placement | None = None,
    is_partial: bool = False,
    fps: Fraction = Fraction(8),
    **fields: Any,
) -> tuple[list[ClipSaved], list[Notice]]:
    request = GenerationRequest(prompt="a cat", seed=7, steps=3, preset="ultrafast", **fields)
    video = Video(frames, request, IDENTITY, 3)
    events: list[Event] = []
    run = run or Run()
    with run.heard_by(events.append):
        Saver(
            video,
            Footage(frames, fps),
            placement or Placement(folder),
            run,
            infotext="a cat\nSteps: 3, Seed: 7, Size: 32x16",
            is_partial=is_partial,
        ).save()
    clips = [event for event in events if isinstance(event, ClipSaved)]
    return clips, [event for event in events if isinstance(event, Notice)]


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_every_format_at_once_is_one_clip_with_one_number(tmp_path: Path):
    (clip,), notices = saved(tmp_path, format=", ".join(WRITERS))
    assert not notices
    assert clip.path.name == "00000-7.mp4"
    assert names(tmp_path) == sorted(path.name for path in clip.paths)
    assert len(clip.paths) == len(WRITERS)
    assert all(path.name.startswith("00000-7") for path in clip.paths)
    assert {path.name for path in clip.paths} >= {"00000-7-h265.mp4", "00000-7.gif", "00000-7-png-sequence"}
    for path in clip.paths:
        assert read_metadata(path) == clip.infotext
        assert probe(path).frames == (1 if path.suffix == ".png" else 12)
    (second,), _ = saved(tmp_path, format="gif")
    assert second.path.name == "00001-7.gif"


@pytest.mark.parametrize(
    ("formats", "expected"),
    [
        (["mp4"], [".mp4"]),
        (["mp4-h265"], [".mp4"]),
        (["mp4-h265", "mp4", "mp4-av1"], [".mp4", "-mp4.mp4", "-av1.mp4"]),
        (["png-sequence"], [""]),
        (["png", "png-sequence", "jpeg-sequence"], [".png", "-png-sequence", "-jpeg-sequence"]),
    ],
)
def test_the_names_of_one_clips_files_end_differently(formats: list[str], expected: list[str]):
    assert endings([WRITERS[name] for name in formats]) == expected


def test_a_number_is_taken_if_any_of_the_files_would_be_in_the_way(tmp_path: Path):
    (tmp_path / "cat.gif").touch()
    (clip,), _ = saved(tmp_path, format="mp4,gif", placement=Placement(tmp_path, stem="cat", numbered=False))
    assert [path.name for path in clip.paths] == ["cat-1.mp4", "cat-1.gif"]


def test_the_frames_are_read_once_however_many_formats_there_are(tmp_path: Path):
    class Counted:
        shape = FRAMES.shape
        reads = 0

        def __len__(self) -> int:
            return len(FRAMES)

        def __getitem__(self, index: slice) -> Frames:
            Counted.reads += len(FRAMES[index])
            return FRAMES[index]

    saved(tmp_path, frames=Counted(), format="mp4,gif,webp,apng")
    assert Counted.reads == len(FRAMES) + 2  # the first frame once more for the event, and for the video's check


def test_a_recipe_and_frames_beside_a_clip_are_there_once(tmp_path: Path):
    placement = Placement(tmp_path, text_beside=True, frames_beside=True)
    saved(tmp_path, format="gif,mp4", placement=placement)
    assert names(tmp_path) == ["00000-7-frames", "00000-7.gif", "00000-7.mp4", "00000-7.txt"]
    assert len(list((tmp_path / "00000-7-frames").iterdir())) == 12


def test_a_stopped_clip_is_partial_in_every_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(saving, "STOP_WITHIN", -1.0)
    run = Run()
    run.listen(lambda event: run.interrupt() if isinstance(event, Progress) and event.done == 4 else None)
    (clip,), _ = saved(tmp_path, format="mp4,gif,png-sequence", run=run)
    assert clip.partial
    assert names(tmp_path) == ["00000-7-partial-png-sequence", "00000-7-partial.gif", "00000-7-partial.mp4"]
    assert {probe(path).frames for path in clip.paths} == {4}


def test_encoding_is_reported_once_for_all_formats(tmp_path: Path):
    events: list[Event] = []
    saved(tmp_path, format="mp4,gif", run=Run(events.append))
    done = [event.done for event in events if isinstance(event, Progress) and event.stage is Stage.ENCODING]
    assert done == list(range(13))


def fails_with(error: BaseException, *, after: int = 3) -> Any:
    """A `write` that gives up after some frames."""

    def write(target: Path, chunks: Any, encoding: Any, **options: Any) -> int:
        for number, _ in enumerate(chunks):
            if number == after:
                raise error
        return after

    return write


def test_a_format_that_fails_alone_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("t2v_core.media.gif.write", fails_with(OutputError("The gif is broken.")))
    (clip,), (notice,) = saved(tmp_path, format="gif,mp4,apng")
    assert names(tmp_path) == ["00000-7.apng", "00000-7.mp4"]
    assert clip.path.suffix == ".mp4"
    assert not clip.partial
    assert "The gif is broken" in notice.message


def test_where_every_format_fails_the_error_is_the_first_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("t2v_core.media.gif.write", fails_with(OutputError("The gif is broken.")))
    monkeypatch.setattr("t2v_core.media.webp.write", fails_with(OutputError("The webp is broken.")))
    with pytest.raises(OutputError, match="gif"):
        saved(tmp_path, format="gif,webp")
    assert names(tmp_path) == []


@pytest.mark.parametrize("formats", ["gif", "gif,mp4", "mp4,gif,webp"])
def test_a_mistake_in_an_encoder_ends_them_all_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, formats: str
):
    monkeypatch.setattr("t2v_core.media.gif.write", fails_with(ZeroDivisionError("mine")))
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError, match="mine"):
        saved(tmp_path, format=formats)
    assert names(tmp_path) == []
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt(), OutputError("of the frames")])
@pytest.mark.parametrize("formats", ["gif", "gif,mp4,apng"])
def test_an_error_in_the_frames_ends_all_encoders_and_leaves_nothing(
    tmp_path: Path, formats: str, error: BaseException
):
    class Broken:
        shape = FRAMES.shape

        def __len__(self) -> int:
            return len(FRAMES)

        def __getitem__(self, index: slice) -> Frames:
            if index.start:
                raise error
            return FRAMES[index]

    before = threading.active_count()
    with pytest.raises(type(error)) as caught:
        saved(tmp_path, frames=Broken(), format=formats)
    assert caught.value is error
    assert names(tmp_path) == []
    assert threading.active_count() == before


def test_a_slow_encoder_holds_the_others_back_and_no_frames_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    waiting, most = [0], [0]
    go = threading.Event()

    def slow(target: Path, chunks: Any, encoding: Any) -> int:
        for number, _ in enumerate(chunks):
            if not number:
                go.wait(0.5)
            waiting[0] -= 1
        return 1

    monkeypatch.setattr("t2v_core.media.gif.write", slow)
    attempts = [Attempt(WRITERS[name], tmp_path / name) for name in ("gif", "png")]

    def chunks() -> Any:
        for _ in range(60):
            waiting[0] += 1
            most[0] = max(most[0], waiting[0])
            yield FRAMES[:1]

    write_all(attempts, chunks(), dataclasses.replace(encoding_of(FRAMES)))
    assert most[0] <= several._AHEAD + 3


def encoding_of(frames: Frames) -> Any:
    from t2v_core.media import Encoding

    return Encoding(width=frames.shape[2], height=frames.shape[1], fps=8)


# ---- A full disk


def full_after(count: int) -> Any:
    """A picture file of which so many can be written, in all, until one is removed."""
    real = stills.WrittenFile

    class Full(real):
        written = 0

        def write(self, content: bytes, *, at: int | None = None) -> int:
            if len([name for name in os.listdir(self._target.parent) if name.endswith(".png")]) > count:
                raise DiskFullError("The disk is full.")
            return super().write(content, at=at)

    return Full


@pytest.mark.parametrize("room", [1, 5, 11])
def test_a_full_disk_keeps_as_many_frames_as_there_is_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
):
    monkeypatch.setattr(stills, "WrittenFile", full_after(room))
    run, clips = Run(), []
    run.listen(lambda event: clips.append(event) if isinstance(event, ClipSaved) else None)
    with pytest.raises(DiskFullError, match="full"):
        saved(tmp_path, format="png-sequence", run=run)
    assert names(tmp_path) == ["00000-7-partial"]
    (clip,) = clips
    assert clip.partial
    assert room / 2 <= probe(clip.path).frames <= room
    assert read_metadata(clip.path) == clip.infotext


def test_a_full_disk_with_no_room_for_a_single_frame_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stills, "WrittenFile", full_after(0))
    with pytest.raises(DiskFullError):
        saved(tmp_path, format="png-sequence")
    assert names(tmp_path) == []


def test_formats_that_fit_stay_whole_beside_one_that_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stills, "WrittenFile", full_after(6))
    run, clips = Run(), []
    run.listen(lambda event: clips.append(event) if isinstance(event, ClipSaved) else None)
    with pytest.raises(DiskFullError):
        saved(tmp_path, format="png-sequence,mp4", run=run)
    (clip,) = clips
    assert [path.name for path in clip.paths] == ["00000-7.mp4", "00000-7-partial-png-sequence"]
    assert probe(clip.path).frames == 12
    assert not clip.partial


@pytest.mark.skipif(not ROOT or sys.platform != "linux", reason="mounting a small disk needs root")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "gif" else name for name in WRITERS]
)
def test_a_disk_that_fills_up_keeps_a_playable_part(tmp_path: Path, name: str):
    size = {"mov": 256, "png": 8}.get(name, 128)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting isn't allowed here")
    try:
        noise = np.random.default_rng(0).integers(0, 256, (24, 96, 96, 3), dtype=np.uint8)
        events: list[Event] = []
        with pytest.raises(DiskFullError, match="is full"):
            saved(tmp_path, frames=noise, format=name, run=Run(events.append), crf=1)
        clips = [event for event in events if isinstance(event, ClipSaved)]
        left = names(tmp_path)
        if name == "png":  # one frame has room or not
            assert left == []
            return
        (clip,) = clips
        assert [clip.path.name] == left
        assert "-partial" in left[0]
        assert 1 <= probe(clip.path).frames < 24
        assert len(read_frames(clip.path)) == probe(clip.path).frames
        assert read_metadata(clip.path) == clip.infotext
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


# ---- Which formats there are


def test_a_format_that_this_ffmpeg_cannot_write_is_said_before_any_work(host: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(film_codecs, "encoders", lambda: frozenset({"libx264"}))
    renderer, request = FakeRenderer(), GenerationRequest(format="mp4, webm, mp4-av1")
    with pytest.raises(RequestError) as caught:
        service.generate([request], renderer=renderer, host=host, run=Run())
    assert [problem.field for problem in caught.value.problems] == ["format", "format"]
    assert "libvpx-vp9" in str(caught.value)
    assert "libaom-av1 or libsvtav1" in str(caught.value)
    assert not renderer.rendered


def test_sequences_and_pictures_need_no_ffmpeg(monkeypatch: pytest.MonkeyPatch):
    def no_encoders() -> frozenset[str]:
        raise AssertionError("ffmpeg was asked")

    monkeypatch.setattr(film_codecs, "encoders", no_encoders)
    saving.check_formats(GenerationRequest(format="gif, webp, apng, png-sequence, jpeg-sequence, png"))


# ---- Sound


@pytest.fixture
def tone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a tone, then silence for another."""
    path = tmp_path_factory.mktemp("sound") / "tone.wav"
    time = np.arange(3 * 22050) / 22050
    samples = (20000 * np.sin(2 * np.pi * 440 * time) * (time < 2)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 22050, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


def loudness(path: Path) -> np.ndarray[Any, Any]:
    """The mean level of each tenth of a second of a file's sound."""
    command = [executable(), "-v", "error", "-i", local_file(path), "-map", "0:a:0", "-ac", "1", "-ar", "8000"]
    raw = subprocess.run([*command, "-f", "s16le", "-"], capture_output=True, check=True).stdout
    samples = np.abs(np.frombuffer(raw, "<i2").astype(float))
    return samples[: len(samples) // 800 * 800].reshape(-1, 800).mean(axis=1)


SOUNDING = [name for name, writer in WRITERS.items() if writer.has_sound]


@pytest.mark.parametrize("name", SOUNDING)
def test_sound_is_cut_to_the_clips_length(tmp_path: Path, tone: Path, name: str):
    (clip,), notices = saved(tmp_path, format=name, sound=str(tone))
    assert not notices
    level = loudness(clip.path)
    assert len(level) == pytest.approx(15, abs=1)
    assert (level[1:14] > 5000).all()
    assert probe(clip.path).frames == 12
    assert float(probe(clip.path).duration) == pytest.approx(1.5, abs=0.002)
    assert read_metadata(clip.path) == clip.infotext
    assert length_of(clip.path) == pytest.approx(1.5, abs=0.03)


def length_of(path: Path) -> float:
    """What players show as a file's length."""
    said = subprocess.run([executable(), "-i", local_file(path)], capture_output=True, check=False).stderr.decode()
    hours, minutes, seconds = said.split("Duration: ")[1].split(",")[0].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


@pytest.mark.parametrize("name", SOUNDING)
def test_a_files_length_is_the_clips(tmp_path: Path, name: str):
    (clip,), _ = saved(tmp_path, format=name, fps=Fraction(24))
    assert length_of(clip.path) == pytest.approx(0.5, abs=0.011)


def test_sound_that_is_too_short_ends_in_silence_or_begins_again(tmp_path: Path, tone: Path):
    frames = np.zeros((32, 16, 32, 3), np.uint8)
    (cut,), _ = saved(tmp_path, frames=frames, sound=f'"{tone}"')
    (loop,), _ = saved(tmp_path, frames=frames, sound=str(tone), sound_fit="loop")
    assert len(loudness(cut.path)) == len(loudness(loop.path)) == pytest.approx(40, abs=1)
    assert (loudness(cut.path)[22:38] < 200).all()
    assert (loudness(loop.path)[22:29] < 200).all()
    assert (loudness(loop.path)[32:38] > 5000).all()


def test_a_clip_that_is_stopped_has_no_more_sound_than_pictures(
    tmp_path: Path, tone: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(saving, "STOP_WITHIN", -1.0)
    run = Run()
    run.listen(lambda event: run.interrupt() if isinstance(event, Progress) and event.done == 4 else None)
    (clip,), _ = saved(tmp_path, format=",".join(SOUNDING), sound=str(tone), run=run)
    for path in clip.paths:
        assert probe(path).frames == 4
        assert length_of(path) == pytest.approx(0.5, abs=0.05)
        assert read_metadata(path) == clip.infotext


def test_the_sources_sound_begins_where_the_clip_does(tmp_path: Path, tone: Path):
    frames = np.zeros((16, 16, 32, 3), np.uint8)
    (source,), _ = saved(tmp_path, frames=np.zeros((24, 16, 32, 3), np.uint8), sound=str(tone))
    (clip,), _ = saved(tmp_path, frames=frames, source=str(source.path), source_start=1.0, sound="source")
    level = loudness(clip.path)
    assert len(level) == pytest.approx(20, abs=1)
    assert (level[:9] > 5000).all()
    assert (level[11:] < 200).all()


@pytest.mark.parametrize("sound", ["source", " "])
def test_without_a_source_there_is_no_sound(tmp_path: Path, sound: str):
    (clip,), notices = saved(tmp_path, sound=sound)
    assert not notices
    assert "Audio" not in described(clip.path)


def described(path: Path) -> str:
    return subprocess.run([executable(), "-i", local_file(path)], capture_output=True, check=False).stderr.decode()


def test_a_sound_that_cannot_be_read_costs_the_sound_and_not_the_clip(tmp_path: Path):
    (tmp_path / "text.wav").write_text("no sound at all")
    for sound in ("text.wav", "gone.wav"):
        (clip,), (notice,) = saved(tmp_path, sound=str(tmp_path / sound))
        assert sound in notice.message
        assert "without sound" in notice.message
        assert probe(clip.path).frames == 12


def test_a_video_without_sound_is_said(tmp_path: Path):
    (source,), _ = saved(tmp_path)
    _, (notice,) = saved(tmp_path, source=str(source.path), sound="source")
    assert "has no sound" in notice.message


def test_formats_without_sound_need_none(tmp_path: Path):
    _, notices = saved(tmp_path, format="gif,apng", sound=str(tmp_path / "gone.wav"))
    assert not notices


def test_a_full_disk_for_the_sound_is_an_error(tmp_path: Path, tone: Path, monkeypatch: pytest.MonkeyPatch):
    import shutil

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(DiskFullError):
        saved(tmp_path, sound=str(tone))
    assert names(tmp_path) == []
