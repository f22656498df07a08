"""Copies that are needed for a moment lie in the same memory where that is asked for, and nowhere else."""

from __future__ import annotations

import threading

import pytest
import torch

from t2v_core.models.by_taps import ByTaps
from t2v_core.models.cpu_kernels import joined, usable
from t2v_core.models.room import kept_room, room


def place(*shape, dtype=torch.float32):
    return room(shape, dtype, kind="gathered").untyped_storage().data_ptr()


def test_within_the_block_every_copy_takes_the_place_of_the_one_before():
    with kept_room():
        large = place(64, 32)
        assert place(7, 5, 3) == place(64, 32, dtype=torch.bfloat16) == large
        with kept_room():
            assert place(64, 32) == large
        assert place(64, 32) == large, "the inner block doesn't end the outer one"
        other = room((64, 32), torch.float32, kind="widened")
        assert other.untyped_storage().data_ptr() != large, "a copy of another kind is made of this one"
        found = room((3, 5), torch.float32, kind="gathered")
    assert found.shape == (3, 5)
    assert found.is_contiguous()


def test_outside_of_it_each_has_its_own():
    first, second = (room((64, 32), torch.float32, kind="gathered") for _ in range(2))
    assert first.data_ptr() != second.data_ptr()
    with kept_room():
        third = room((8, 8), torch.float32, kind="gathered")
    with kept_room():
        fourth = room((8, 8), torch.float32, kind="gathered")
    assert third.data_ptr() != fourth.data_ptr(), "somebody may still have the first block's"


def test_each_thread_has_a_room_of_its_own():
    seen = []
    with kept_room():
        mine = room((64, 32), torch.float32, kind="gathered")
        thread = threading.Thread(
            target=lambda: seen.extend(room((64, 32), torch.float32, kind="gathered") for _ in range(2))
        )
        thread.start()
        thread.join()
    assert len({mine.data_ptr(), *(each.data_ptr() for each in seen)}) == 3


@pytest.mark.skipif(not usable(torch.float32), reason="torch has no oneDNN here")
@pytest.mark.parametrize("size", [(3, 3), (3, 1), (1, 1)])
def test_what_was_packed_from_it_stays_as_it_was(size):
    kernels = [torch.randn(70, 500, *size) for _ in range(3)]
    with torch.inference_mode(), kept_room():
        packed = [ByTaps(kernel, None, padding=(size[0] // 2, size[1] // 2)) for kernel in kernels]
        rows = [joined([torch.full((3, 4), value), torch.full((2, 4), value)]).clone() for value in (1.0, 2.0)]
        assert all(torch.equal(form.unpacked(), kernel) for form, kernel in zip(packed, kernels, strict=True))
    assert all(torch.equal(found, torch.full((5, 4), value)) for found, value in zip(rows, (1.0, 2.0), strict=True))
