"""Long and large clips in pieces: every place gets its share once, no piece is too large, and no border stays."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from t2v_core.sampling.schedule import Level
from t2v_core.sampling.windows import Axis, Cut, cut, in_tiles

LEVELS = tuple(Level(1000 - 100 * index, 0.1 * index, (1 - 0.01 * index**2) ** 0.5) for index in range(1, 11))


@st.composite
def axes(draw):
    size = draw(st.integers(1, 40))
    return Axis(size, draw(st.integers(0, size - 1)), closed=draw(st.booleans()))


@given(length=st.integers(1, 300), axis=axes(), step=st.integers(0, 60))
def test_each_places_shares_are_one_in_all(length, axis, step):
    sums = [0.0] * length
    for span in cut(length, axis, step=step):
        assert len(span.indices) == len(span.shares) == min(axis.size, length)
        for index, share in zip(span.indices, span.shares, strict=True):
            sums[index] += share
    assert sums == pytest.approx([1.0] * length)


@given(length=st.integers(2, 300), axis=axes(), step=st.integers(0, 60))
def test_pieces_lie_on_the_axis_in_order_and_overlap_by_half_of_what_was_asked_at_least(length, axis, step):
    spans = cut(length, axis, step=step)
    for span in spans:
        gaps = [(after - before) % length for before, after in zip(span.indices, span.indices[1:], strict=False)]
        assert set(gaps) <= {1}
        assert axis.closed or list(span.indices) == sorted(span.indices)
    for before, after in itertools.pairwise(spans):
        common = len(set(before.indices) & set(after.indices))
        assert common >= axis.overlap // 2


def test_borders_move_from_step_to_step():
    starts = [tuple(span.indices[0] for span in cut(64, Axis(16, 4), step=step)) for step in range(8)]
    assert len({each[1] for each in starts}) >= 6
    assert all(each[0] == 0 and each[-1] == 48 for each in starts)


def test_a_closed_axis_has_pieces_across_its_end():
    across = [
        span
        for step in range(5)
        for span in cut(32, Axis(16, 4, closed=True), step=step)
        if {31, 0} <= set(span.indices)
    ]
    assert len(across) >= 5
    assert {cut(8, Axis(closed=True), step=step)[0].indices[0] for step in range(8)} >= {0, 3, 5}


def test_pieces_that_are_no_longer_than_their_overlap_are_refused():
    with pytest.raises(ValueError, match="can't overlap by 4"):
        cut(10, Axis(4, 4), step=0)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("step", [0, 1, 7])
def test_what_says_the_same_for_every_piece_says_it_for_the_whole(closed, step):
    latents = torch.randn(1, 4, 37, 11, 9)
    whole = in_tiles(
        lambda tile: lambda x, level: x * level.alpha, Cut(Axis(8, 3, closed), Axis(5, 2), Axis(4, 1)), LEVELS
    )
    assert torch.allclose(whole(latents, LEVELS[step]), latents * LEVELS[step].alpha, atol=1e-6)


def test_each_piece_is_seen_with_its_own_frames_and_never_more_at_once():
    seen = []

    def denoiser(tile):
        def denoise(x, level):
            seen.append((tile.frames.indices, x.shape))
            assert torch.equal(x[0, 0, :, 0, 0], torch.tensor(tile.frames.indices, dtype=torch.float32))
            return x

        return denoise

    numbered = torch.arange(20.0).view(1, 1, 20, 1, 1).expand(1, 1, 20, 6, 6).contiguous()
    total = in_tiles(denoiser, Cut(Axis(8, 2, closed=True), Axis(4, 1)), LEVELS)(numbered, LEVELS[3])
    assert torch.allclose(total, numbered)
    assert {shape for _, shape in seen} == {(1, 1, 8, 4, 6)}


def test_a_clip_in_one_piece_is_handed_on_as_it_is():
    latents = torch.randn(1, 4, 5, 3, 3)
    assert in_tiles(lambda tile: lambda x, level: x, Cut(), LEVELS)(latents, LEVELS[0]) is latents


def test_the_work_of_pieces_counts_their_overlap():
    assert Cut().passes((16, 32, 32)) == 1
    assert Cut(Axis(16, 4)).passes((160, 32, 32)) == pytest.approx(16 / 12, rel=0.1)
    assert Cut(Axis(16, 8), Axis(16, 8)).passes((160, 64, 64)) == pytest.approx(4, rel=0.25)
