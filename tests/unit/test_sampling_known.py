"""What is known of a clip is held as long as it's asked to be, by every sampler, and exactly to the end."""

from __future__ import annotations

import pytest
import torch

from t2v_core.sampling import SAMPLERS, find_sampler, load
from t2v_core.sampling.known import Known
from t2v_core.sampling.noise import FrameNoise
from t2v_core.sampling.schedule import NoiseSchedule, levels

NOISE_SCHEDULE = NoiseSchedule.linear_sd()
SHAPE = (1, 4, 6, 3, 5)
KNOWN = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


def held(value=0.0, **frames):
    hold = torch.full((1, 1, *SHAPE[2:]), value)
    for frame, share in frames.items():
        hold[:, :, int(frame[1:])] = share
    return Known(KNOWN, hold)


def run(known, *, sampler="DPM++ 2M", steps=10, spy=None):
    row = find_sampler(sampler)
    schedule = levels("Model", steps, NOISE_SCHEDULE, sampler=row)
    first = known.first_step(steps)
    noise = FrameNoise(3, *SHAPE[1:])

    def network(latents, level):
        if spy is not None:
            spy.append((latents.clone(), level))
        return torch.tanh(latents)

    start = known.start(noise.draw(0), schedule[first])
    denoise = known.holding(network, schedule)
    *_, last = load(row)(denoise, start, schedule[first:], noise=noise, eta=row.eta)
    return known.keep(last.latents), noise


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_is_held_to_the_end_comes_back_exactly_and_the_rest_is_free(sampler):
    found, _ = run(held(_0=1.0, _4=1.0), sampler=sampler, steps=8)
    assert torch.equal(found[:, :, [0, 4]], KNOWN[:, :, [0, 4]])
    assert (found[:, :, [1, 2, 3, 5]] - KNOWN[:, :, [1, 2, 3, 5]]).abs().mean() > 0.1


@pytest.mark.parametrize("sampler", ["DDIM", "DPM++ 2M", "UniPC", "Euler"])
def test_a_deterministic_sampler_shows_the_network_the_known_at_each_steps_noise(sampler):
    seen = []
    _, noise = run(held(_2=1.0), sampler=sampler, spy=seen)
    for latents, level in seen:
        wanted = level.alpha * KNOWN + level.sigma * noise.draw(0)
        assert torch.allclose(latents[:, :, 2], wanted[:, :, 2], atol=1e-4)


@pytest.mark.parametrize(("hold", "first"), [(0.0, 0), (0.25, 3), (0.3, 3), (0.7, 7), (0.95, 10), (1.0, 10)])
def test_steps_in_which_nothing_is_free_are_left_out(hold, first):
    assert held(hold).first_step(10) == first
    assert held(hold, _1=0.0).first_step(10) == 0


def test_without_hold_the_noise_begins_as_it_is():
    noise, level = torch.randn(SHAPE), NOISE_SCHEDULE.at(981)
    assert torch.equal(held(0.0).start(noise, level), noise)
    start = held(0.0, _3=0.5).start(noise, level)
    assert torch.equal(start[:, :, :3], noise[:, :, :3])
    assert torch.allclose(start[:, :, 3], (level.alpha * KNOWN + level.sigma * noise)[:, :, 3])


def test_more_hold_is_nearer_to_the_known():
    distances = [(run(held(hold), steps=20)[0] - KNOWN).abs().mean().item() for hold in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert distances == sorted(distances, reverse=True)


def test_a_place_lets_go_when_its_share_of_the_steps_is_over():
    seen = []
    known = held(0.0, _1=0.5)
    _, noise = run(known, spy=seen, steps=10)
    for step, (latents, level) in enumerate(seen):
        on_its_way = level.alpha * KNOWN + level.sigma * noise.draw(0)
        is_held = torch.allclose(latents[:, :, 1], on_its_way[:, :, 1], atol=1e-4)
        assert is_held == (step <= 5), "what step 5 sees is still what step 4 held"


def test_a_hold_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="can't be held"):
        Known(KNOWN, torch.zeros(1, 1, 2, 3, 5))
