"""Noise is decided by seed, frame and draw alone, and is unit normal and independent between them."""

from __future__ import annotations

import itertools

import pytest
import torch

from t2v_core.sampling.noise import FrameNoise


def noise(seed=0, frames=4, channels=4, height=32, width=32):
    return FrameNoise(seed, channels, frames, height, width)


def test_a_draw_has_the_latents_shape_on_the_cpu_in_float32():
    draw = noise(channels=3, frames=5, height=6, width=7).draw(0)
    assert draw.shape == (1, 3, 5, 6, 7)
    assert draw.dtype == torch.float32
    assert draw.device.type == "cpu"


@pytest.mark.parametrize("index", [0, 3])
def test_a_frame_is_the_same_however_many_are_asked_for(index):
    shorter, longer = noise(frames=16).draw(index), noise(frames=24).draw(index)
    assert torch.equal(shorter, longer[:, :, :16])
    assert torch.equal(noise(frames=6).draw(index)[:, :, 5], shorter[:, :, 5])


def test_a_draw_does_not_depend_on_the_draws_before_it_nor_on_torchs_own_state():
    source = noise(seed=7)
    torch.manual_seed(1)
    first = source.draw(2)
    torch.manual_seed(2)
    source.draw(0)
    source.draw(1)
    assert torch.equal(source.draw(2), first)


def test_drawing_leaves_torchs_own_state_alone():
    before = torch.get_rng_state()
    noise().draw(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_of_any_size_are_distinct():
    seeds = [-(2**63), -1, 0, 1, 2**32 - 1, 2**32, 2**64, 2**100]
    draws = [noise(seed=seed, frames=1, height=4, width=4).draw(0) for seed in seeds]
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(draws, 2))


def test_it_is_unit_normal():
    values = noise(seed=5, frames=64).draw(0).flatten().double()
    mean, deviation = values.mean(), values.std()
    assert abs(mean) < 5 / len(values) ** 0.5
    assert abs(deviation - 1) < 5 / (2 * len(values)) ** 0.5
    assert abs((values**3).mean()) < 0.03
    assert abs((values**4).mean() - 3) < 0.08
    thresholds = torch.linspace(-3, 3, 25, dtype=torch.float64)
    found = (values[:, None] < thresholds).double().mean(dim=0)
    assert (found - torch.special.ndtr(thresholds)).abs().max() < 2 / len(values) ** 0.5


def test_frames_draws_and_seeds_are_independent_of_each_other():
    slabs = torch.cat(
        [noise(seed=seed, frames=6).draw(index)[0] for seed in (0, 1, 2, 3) for index in (0, 1, 2)], dim=1
    )
    rows = slabs.transpose(0, 1).flatten(1)
    correlation = torch.corrcoef(rows.double()) - torch.eye(len(rows))
    assert len(rows) == 72
    assert correlation.abs().max() < 5 / rows.shape[1] ** 0.5
    assert correlation.square().mean() == pytest.approx(1 / rows.shape[1], rel=0.15)


def test_neighbouring_seeds_do_not_share_frames():
    """As they would if a frame's key were the seed plus its number."""
    frames = {tuple(noise(seed=seed, frames=8, height=2, width=2).draw(0)[0, :, frame].flatten().tolist())
              for seed in range(8) for frame in range(8)}  # fmt: skip
    assert len(frames) == 64


def test_the_values_do_not_change_between_releases():
    """A seed in a file of today must make the same video tomorrow."""
    found = noise(seed=1234, frames=2, channels=4, height=8, width=8).draw(1)[0, :, 1, 0, 0].tolist()
    assert found == pytest.approx([-0.559006, 0.447044, -1.557864, 1.658063], abs=1e-5)


def test_key_frames_have_the_noise_of_the_frames_that_they_are():
    whole, keys = noise(frames=13).draw(0), FrameNoise(0, 4, 4, 32, 32, stride=4).draw(0)
    assert torch.equal(keys, whole[:, :, ::4])


def test_a_long_clip_repeats_its_first_windows_noise_among_neighbours():
    """FreeNoise: windows that see the same noise show the same scene; within a window no frame's noise comes twice."""
    plain = noise(frames=16).draw(0)
    shared = FrameNoise(0, 4, 64, 32, 32, window=16).draw(0)
    assert torch.equal(shared[:, :, :16], plain)
    sources = [next(i for i in range(16) if torch.equal(shared[:, :, f], plain[:, :, i])) for f in range(64)]
    assert all(source // 4 == frame // 4 % 4 for frame, source in enumerate(sources))
    assert any(source != frame % 16 for frame, source in enumerate(sources))
    for group in range(16):
        assert sorted(sources[4 * group : 4 * group + 4]) == [4 * (group % 4) + i for i in range(4)]


def test_fresh_noise_is_never_repeated():
    shared = FrameNoise(0, 4, 48, 32, 32, window=16)
    assert torch.equal(shared.draw(3), noise(frames=48).draw(3))
    fresh = shared.draw(1)
    assert not any(torch.equal(fresh[:, :, a], fresh[:, :, b]) for a, b in itertools.combinations(range(48), 2))
