"""What every processor of finished frames keeps to, whatever it does."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
import threading
from fractions import Fraction

import numpy as np
import pytest

from t2v_core.postprocess import INTERPOLATIONS, PROCESSORS, Footage, Means, process
from t2v_core.request import FIELDS, GenerationRequest

WANTING = {
    "upscale": {"upscale": 1.5},
    "ping-pong": {"ping_pong": True},
    "interpolate": {"output_fps": 30.0},
}
"""A request that wants each of them."""

ALL = {name: value for wants in WANTING.values() for name, value in wants.items()}


def moving(frames=7, height=24, width=32):
    """A bright box that moves over a slope, and every frame is another one."""
    clip = np.tile(np.arange(width, dtype=np.uint8)[None, None, :, None], (frames, height, 1, 3))
    for index in range(frames):
        clip[index, 8:16, 3 + 2 * index : 11 + 2 * index] = (230, 120, 40)
    return clip


class Counting:
    """A source that remembers how many frames it was asked for at a time, and in all."""

    def __init__(self, frames):
        self._frames = frames
        self.shape = frames.shape
        self.most = self.read = 0

    def __len__(self):
        return len(self._frames)

    def __getitem__(self, index):
        given = self._frames[index]
        self.most, self.read = max(self.most, len(given)), self.read + len(given)
        return given


def run(frames, request, *, fps=8, means=None, is_loop=False):
    return process(Footage(frames, Fraction(fps), is_loop), request, means or Means())


def test_every_processor_is_tried_here():
    assert WANTING.keys() == PROCESSORS.keys()


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_row_leads_to_a_field_and_a_module(name):
    row = PROCESSORS[name]
    assert FIELDS[row.field].spec.group == "Finish"
    assert callable(importlib.import_module(row.module).process)
    assert row.is_wanted(GenerationRequest(**WANTING[name]))
    assert not row.is_wanted(GenerationRequest())


def test_what_nobody_asks_for_changes_nothing():
    footage = Footage(moving(), Fraction(8))
    assert process(footage, GenerationRequest(), Means()) is footage


@pytest.mark.parametrize("wants", [*WANTING.values(), ALL], ids=[*WANTING, "all"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_frames_are_frames_and_any_slice_is_the_same_in_any_order(wants, count):
    source = moving(count)
    before = source.copy()
    footage = run(source, GenerationRequest(**wants))
    frames = footage.frames
    whole = frames[:]
    assert whole.dtype == np.uint8
    assert whole.shape == tuple(frames.shape)
    assert len(whole) == len(frames)
    assert np.array_equal(source, before)
    for start, stop, step in ((0, 1, 1), (len(frames) - 1, None, 1), (1, 5, 1), (0, None, 3), (len(frames), None, 1)):
        part = frames[start:stop:step]
        assert np.array_equal(part, whole[start:stop:step])
    backwards = [frames[index : index + 1][0] for index in reversed(range(len(frames)))]
    assert np.array_equal(np.stack(backwards[::-1]), whole)


@pytest.mark.parametrize("wants", [*WANTING.values(), ALL], ids=[*WANTING, "all"])
def test_a_clip_lasts_as_long_as_its_frames_at_their_rate_say(wants):
    footage = run(moving(), GenerationRequest(**wants))
    seconds = len(footage.frames) / footage.fps
    wanted = Fraction(12 if wants.get("ping_pong") else 7, 8)
    assert abs(seconds - wanted) <= 1 / footage.fps


@pytest.mark.parametrize("wants", [*WANTING.values(), ALL], ids=[*WANTING, "all"])
def test_reading_in_order_holds_few_frames_and_reads_none_often(wants):
    source = Counting(moving(30))
    frames = run(source, GenerationRequest(**wants)).frames
    for index in range(len(frames)):
        frames[index : index + 1]
    assert source.most <= 4
    assert source.read <= 30 * 2 * 2  # there and back, and a neighbour now and then


@pytest.mark.parametrize("wants", [*WANTING.values(), ALL], ids=[*WANTING, "all"])
def test_threads_read_the_same(wants):
    frames = run(moving(4), GenerationRequest(**wants)).frames
    whole, wrong = frames[:], []

    def read(start):
        for index in [*range(start, len(frames)), *range(start)]:
            if not np.array_equal(frames[index : index + 1][0], whole[index]):
                wrong.append(index)

    threads = [threading.Thread(target=read, args=(3 * number % len(frames),)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("method", INTERPOLATIONS)
def test_every_method_is_a_choice_and_makes_frames(method):
    footage = run(moving(), GenerationRequest(output_fps=30.0, interpolation=method))
    assert footage.frames.shape == (26, 24, 32, 3)


@pytest.mark.parametrize("name", PROCESSORS)
def test_processors_load_neither_torch_nor_each_other_before_they_are_asked(name):
    script = (
        "import sys, t2v_core.postprocess; "
        f"loaded = [name for name in ('torch', 'cv2', 'PIL', {PROCESSORS[name].module!r}) if name in sys.modules]; "
        "sys.exit(len(loaded))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_request_of_all_fields_survives_the_change_of_its_own_values():
    request = GenerationRequest(**ALL)
    assert dataclasses.replace(request) == request
