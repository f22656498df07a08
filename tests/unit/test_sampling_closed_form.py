"""Every sampler on data whose best denoiser is known in closed form: independent Gaussians N(MEAN, DEVIATION^2)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from t2v_core.sampling import SAMPLERS, SCHEDULES, load
from t2v_core.sampling.noise import FrameNoise
from t2v_core.sampling.schedule import Level, NoiseSchedule, levels

MEAN, DEVIATION = 0.7, 0.4
MODEL = NoiseSchedule.linear_sd()
NOISE = FrameNoise(seed=3, channels=4, frames=8, height=32, width=32)

DIFFUSION = [name for name, row in SAMPLERS.items() if not row.distilled]
DISTILLED = [name for name, row in SAMPLERS.items() if row.distilled]
SECOND_ORDER = ("DPM++ 2M", "DPM++ 2M SDE", "UniPC")


def deviation_at(level):
    return math.hypot(level.alpha * DEVIATION, level.sigma)


def best_estimate(latents, level):
    """The mean of x0 given x: what a perfectly trained network gives."""
    return (MEAN * level.sigma**2 + level.alpha * DEVIATION**2 * latents) / deviation_at(level) ** 2


def consistency(latents, level):
    """Where the probability flow from x ends: what a perfectly distilled network gives."""
    return MEAN + (latents - level.alpha * MEAN) * DEVIATION / deviation_at(level)


def noised(level):
    """Latents as the data's own at this level."""
    return NOISE.draw(0).double() * deviation_at(level) + level.alpha * MEAN


def flow(latents, here, there):
    """The exact solution of the probability flow between two levels."""
    return there.alpha * MEAN + (latents - here.alpha * MEAN) * deviation_at(there) / deviation_at(here)


def final(name, run, *, denoise=best_estimate, eta=None):
    row = SAMPLERS[name]
    eta = row.resolve_eta(eta)
    *_, last = load(row)(denoise, noised(run[0]), run, noise=NOISE, eta=eta)
    return last.latents


def flow_error(name, run):
    return float((final(name, run, eta=0.0) - flow(noised(run[0]), run[0], run[-1])).abs().max())


def even_levels(steps):
    """Even in log signal-to-noise, where the solvers' orders show: from timestep 900 to 100."""
    ends = [math.log(MODEL.at(timestep).exploding_sigma) for timestep in (900, 100)]
    return [MODEL.at_exploding_sigma(math.exp(value)) for value in np.linspace(*ends, steps + 1)]


@pytest.mark.parametrize("schedule", list(SCHEDULES))
@pytest.mark.parametrize("name", DIFFUSION)
def test_without_fresh_noise_it_follows_the_probability_flow(name, schedule):
    errors = [flow_error(name, levels(schedule, steps, MODEL, sampler=SAMPLERS[name])) for steps in (10, 40, 160)]
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.6 * errors[0]
    assert errors[2] < 0.06


@pytest.mark.parametrize("name", DIFFUSION)
def test_error_shrinks_with_the_samplers_order(name):
    coarse, middle, fine = (flow_error(name, even_levels(steps)) for steps in (20, 40, 80))
    smallest_ratio = 3.4 if name in SECOND_ORDER else 1.85
    assert coarse > smallest_ratio * middle > smallest_ratio**2 * fine


@pytest.mark.parametrize("eta", [None, 0.5, 1.0])
@pytest.mark.parametrize("name", DIFFUSION)
def test_samples_have_the_datas_mean_and_variance(name, eta):
    run = levels("Karras", 400, MODEL, sampler=SAMPLERS[name])
    samples = final(name, run, eta=eta)
    assert float(samples.mean()) == pytest.approx(run[-1].alpha * MEAN, abs=0.01)
    assert float(samples.std()) == pytest.approx(deviation_at(run[-1]), rel=0.02)


@pytest.mark.parametrize("steps", [1, 4, 8])
@pytest.mark.parametrize("name", DISTILLED)
def test_samples_of_a_consistency_network_have_the_datas_mean_and_variance(name, steps):
    run = levels("Model", steps, MODEL, sampler=SAMPLERS[name])
    samples = final(name, run, denoise=consistency)
    assert float(samples.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(samples.std()) == pytest.approx(DEVIATION, rel=0.02)


@pytest.mark.parametrize("name", DISTILLED)
def test_one_step_of_a_consistency_network_is_the_flows_end(name):
    run = levels("Model", 1, MODEL, sampler=SAMPLERS[name])
    exact = flow(noised(run[0]), run[0], Level(0.0, 1.0, 0.0))
    assert torch.allclose(final(name, run, denoise=consistency), exact, atol=1e-5)


def test_eta_of_one_in_ddim_forgets_its_start_and_eta_of_zero_does_not():
    run = levels("Model", 50, MODEL, sampler=SAMPLERS["DDIM"])
    start = noised(run[0]).flatten()
    kept, fresh = (
        float(torch.corrcoef(torch.stack([start, final("DDIM", run, eta=eta).flatten()]))[0, 1]) for eta in (0.0, 1.0)
    )
    assert kept > 0.999
    assert abs(fresh) < 0.1
