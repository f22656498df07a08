from __future__ import annotations

import errno
import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2v_core.errors import OutputError
from t2v_core.media import stored_frames
from t2v_core.media.stored_frames import StoredFrames, in_chunks
from t2v_core.video import Frames

HEIGHT, WIDTH = 6, 10
FRAME_BYTES = HEIGHT * WIDTH * 3
FRAMES = np.random.default_rng(0).integers(0, 256, (23, HEIGHT, WIDTH, 3), dtype=np.uint8)


def filled(folder: Path, *, memory: int, chunk: int = 5) -> StoredFrames:
    stored = StoredFrames(folder, height=HEIGHT, width=WIDTH, memory=memory)
    for first in range(0, len(FRAMES), chunk):
        stored.append(FRAMES[first : first + chunk])
    return stored


@pytest.fixture(params=[2**20, 0, 7 * FRAME_BYTES], ids=["in memory", "on the disk", "first in memory"])
def memory(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.mark.parametrize("chunk", [1, 5, 23])
def test_the_frames_come_back_as_they_were(tmp_path: Path, memory: int, chunk: int):
    with filled(tmp_path, memory=memory, chunk=chunk) as stored:
        assert stored.shape == FRAMES.shape
        assert len(stored) == len(FRAMES)
        assert np.array_equal(np.asarray(stored), FRAMES)


@pytest.mark.parametrize(
    "index",
    [
        slice(None),
        slice(0, 1),
        slice(22, 23),
        slice(-3, None),
        slice(20, 99),
        slice(5, 5),
        slice(9, 3),
        slice(1, 20, 4),
        slice(None, None, -1),
        slice(15, 4, -3),
    ],
    ids=str,
)
def test_slices_mean_what_they_mean_in_an_array(tmp_path: Path, memory: int, index: slice):
    with filled(tmp_path, memory=memory) as stored:
        some = stored[index]
        assert some.dtype == np.uint8
        assert np.array_equal(some, FRAMES[index])


def test_what_is_read_is_the_readers_own(tmp_path: Path, memory: int):
    with filled(tmp_path, memory=memory) as stored:
        stored[2:4][:] = 0
        assert np.array_equal(stored[2:4], FRAMES[2:4])


def test_what_was_appended_may_be_changed_afterwards(tmp_path: Path, memory: int):
    chunk = FRAMES[:4].copy()
    with StoredFrames(tmp_path, height=HEIGHT, width=WIDTH, memory=memory) as stored:
        stored.append(chunk)
        chunk[:] = 0
        assert np.array_equal(stored[:], FRAMES[:4])


def test_frames_that_do_not_lie_in_order_in_memory(tmp_path: Path, memory: int):
    turned = np.ascontiguousarray(FRAMES.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    with StoredFrames(tmp_path, height=HEIGHT, width=WIDTH, memory=memory) as stored:
        stored.append(turned)
        assert np.array_equal(stored[:], FRAMES)


def test_no_frames_are_an_empty_source(tmp_path: Path, memory: int):
    with StoredFrames(tmp_path, height=HEIGHT, width=WIDTH, memory=memory) as stored:
        stored.append(FRAMES[:0])
        assert stored[:].shape == (0, HEIGHT, WIDTH, 3)
        assert stored[:1].dtype == np.uint8


def test_the_file_has_no_name_and_little_stays_in_memory(tmp_path: Path):
    with filled(tmp_path, memory=0) as stored:
        assert not stored._kept
        if os.name != "nt":
            assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks at Linux's list of open files")
def test_the_file_goes_with_whoever_held_it(tmp_path: Path):
    def open_files() -> int:
        return sum(os.path.realpath(f"/proc/self/fd/{name}").startswith(str(tmp_path)) for name in os.listdir(fds))

    fds = "/proc/self/fd"
    stored = filled(tmp_path, memory=0)
    assert open_files() == 1
    del stored
    gc.collect()
    assert open_files() == 0


def test_closed_frames_are_not_read(tmp_path: Path, memory: int):
    stored = filled(tmp_path, memory=memory)
    stored.close()
    stored.close()
    with pytest.raises(ValueError, match="given back"):
        stored[:1]
    with pytest.raises(ValueError, match="given back"):
        stored.append(FRAMES)


@pytest.mark.parametrize(
    "chunk",
    [FRAMES[0], FRAMES[:, :4], FRAMES[..., :1], FRAMES.astype(np.float32)],
    ids=["one frame", "height", "channels", "type"],
)
def test_other_frames_are_refused(tmp_path: Path, chunk: Any):
    with StoredFrames(tmp_path, height=HEIGHT, width=WIDTH) as stored, pytest.raises(ValueError, match="frames are"):
        stored.append(chunk)


def test_frames_are_read_in_slices(tmp_path: Path):
    with filled(tmp_path, memory=0) as stored, pytest.raises(TypeError, match="slices"):
        stored[0]  # type: ignore[index]  # the mistake


def full_after(writes: int) -> Callable[..., None]:
    """A `_write` to a disk that takes so many frames and then no more."""
    real, done = stored_frames._write, [0]

    def write(file: Any, frame: Frames, place: int) -> None:
        done[0] += 1
        if done[0] > writes:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, frame, place)

    return write


@pytest.mark.parametrize("memory", [0, 10 * FRAME_BYTES])
@pytest.mark.parametrize("writes", [0, 7, 13, 17])
def test_a_full_disk_is_one_sentence_and_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int, writes: int
):
    monkeypatch.setattr(stored_frames, "_write", full_after(writes))
    stored = StoredFrames(tmp_path, height=HEIGHT, width=WIDTH, memory=memory)
    with stored, pytest.raises(OutputError, match="full"):  # noqa: PT012 - the frame at which it fails depends
        for first in range(0, len(FRAMES), 3):
            stored.append(FRAMES[first : first + 3])
    monkeypatch.undo()
    assert len(stored) < len(FRAMES)
    assert list(tmp_path.iterdir()) == []


def test_after_a_full_disk_the_frames_before_are_still_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with StoredFrames(tmp_path, height=HEIGHT, width=WIDTH, memory=0) as stored:
        stored.append(FRAMES[:8])
        monkeypatch.setattr(stored_frames, "_write", full_after(1))
        with pytest.raises(OutputError, match="full"):
            stored.append(FRAMES[8:])
        monkeypatch.undo()
        assert np.array_equal(stored[:], FRAMES[:8])
        stored.append(FRAMES[8:])
        assert np.array_equal(stored[:], FRAMES)


def test_a_missing_folder_is_one_sentence(tmp_path: Path):
    with StoredFrames(tmp_path / "gone", height=HEIGHT, width=WIDTH, memory=0) as stored:
        with pytest.raises(OutputError, match="gone"):
            stored.append(FRAMES)
        assert len(stored) == 0


def test_several_threads_read_while_one_appends(tmp_path: Path, memory: int):
    stored = StoredFrames(tmp_path, height=HEIGHT, width=WIDTH, memory=memory)
    wrong: list[int] = []

    def read() -> None:
        seen = 0
        while seen < len(FRAMES):
            seen = len(stored)
            if not np.array_equal(stored[:seen], FRAMES[:seen]):
                wrong.append(seen)

    readers = [threading.Thread(target=read) for _ in range(3)]
    with stored:
        for reader in readers:
            reader.start()
        for frame in FRAMES:
            stored.append(frame[None])
        for reader in readers:
            reader.join(30)
    assert not wrong


@pytest.mark.parametrize("frames_at_once", [1, 4, 100])
def test_chunks_are_all_frames_in_order(tmp_path: Path, frames_at_once: int):
    with filled(tmp_path, memory=0) as stored:
        chunks = list(in_chunks(stored, most_bytes=frames_at_once * FRAME_BYTES + 1))
    assert max(map(len, chunks)) == min(frames_at_once, len(FRAMES))
    assert np.array_equal(np.concatenate(chunks), FRAMES)


def test_a_chunk_is_one_frame_at_least():
    assert [len(chunk) for chunk in in_chunks(FRAMES, most_bytes=1)] == [1] * len(FRAMES)
