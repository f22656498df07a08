"""What every row of the sampler and schedule tables keeps: a new algorithm is one file, one row and no new test."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import subprocess
import sys

import pytest
import torch

from t2v_core import sampling
from t2v_core.errors import RequestError
from t2v_core.sampling import SAMPLERS, SCHEDULES, Terminal, find_sampler, find_schedule, load
from t2v_core.sampling.algorithm import Step
from t2v_core.sampling.noise import FrameNoise
from t2v_core.sampling.schedule import NoiseSchedule, levels

MODEL = NoiseSchedule.linear_sd()
ALL_SAMPLERS = pytest.mark.parametrize("row", SAMPLERS.values(), ids=SAMPLERS)
ALL_SCHEDULES = pytest.mark.parametrize("schedule", SCHEDULES)


class NoNoise:
    def draw(self, index):
        raise AssertionError(f"draw {index} was asked for")


def denoise(latents, level):
    """Smooth, nonlinear, and frame by frame."""
    return torch.tanh(0.8 * latents + level.timestep / 900) - 0.2


def noise_of(*, seed=5, channels=4, frames=3, height=6, width=5):
    return FrameNoise(seed, channels, frames, height, width)


def steps_of(row, *, steps=6, noise=None, schedule="Model", eta=None, draws=None):
    noise = noise or noise_of()
    run = levels(schedule, steps, MODEL, sampler=row)
    return load(row)(denoise, noise.draw(0), run, noise=draws or noise, eta=row.resolve_eta(eta))


def final(row, **options):
    *_, last = steps_of(row, **options)
    return last.latents


def test_importing_the_tables_loads_no_torch():
    code = "import sys, t2v_core.sampling, t2v_core.sampling.schedule; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_algorithm_is_in_the_table():
    modules = [f"{sampling.__name__}.{info.name}" for info in pkgutil.iter_modules(sampling.__path__)]
    algorithms = {name for name in modules if hasattr(importlib.import_module(name), "sample")}
    assert algorithms == {row.module for row in SAMPLERS.values()}


@pytest.mark.parametrize(("key", "row"), [*SAMPLERS.items(), *SCHEDULES.items()])
def test_a_row_says_what_it_is(key, row):
    assert key == row.name
    assert row.help.endswith(".")
    assert len(row.help) > 20


@pytest.mark.parametrize(
    ("find", "wrong", "right", "field"),
    [(find_sampler, "euler", "'Euler'", "sampler"), (find_schedule, "karas", "'Karras'", "schedule")],
)
def test_an_unknown_name_is_answered_with_the_nearest(find, wrong, right, field):
    with pytest.raises(RequestError, match=right) as caught:
        find(wrong)
    assert caught.value.problems[0].field == field


@ALL_SAMPLERS
def test_an_option_that_a_sampler_lacks_is_refused(row):
    with pytest.raises(TypeError, match="strength"):
        load(row.name, strength=0.5)


@ALL_SCHEDULES
@ALL_SAMPLERS
@pytest.mark.parametrize("steps", [1, 2, 7, 30])
def test_it_takes_exactly_the_steps_asked_for(row, schedule, steps):
    taken = list(steps_of(row, steps=steps, schedule=schedule))
    assert [step.index for step in taken] == list(range(steps))
    for step in taken:
        assert isinstance(step, Step)
        assert step.latents.shape == step.denoised.shape == (1, 4, 3, 6, 5)
        assert step.latents.dtype == step.denoised.dtype == torch.float32
        assert step.latents.isfinite().all()
        assert step.denoised.isfinite().all()


@ALL_SCHEDULES
@ALL_SAMPLERS
def test_levels_fall_to_the_rows_terminal_level(row, schedule):
    run = levels(schedule, 20, MODEL, sampler=row)
    assert len(run) == 21
    assert all(here.sigma > there.sigma for here, there in itertools.pairwise(run))
    if row.terminal is Terminal.ZERO or schedule == "Karras":
        assert (run[-1].alpha, run[-1].sigma) == (1.0, 0.0)
    else:
        assert run[-1].alpha ** 2 == pytest.approx(MODEL.alphas_cumprod[0], rel=1e-12)


@ALL_SCHEDULES
@ALL_SAMPLERS
def test_the_most_steps_are_finite_and_more_are_refused(row, schedule):
    noise = noise_of(channels=1, frames=1, height=2, width=2)
    assert final(row, steps=row.most_steps, schedule=schedule, noise=noise).isfinite().all()
    for steps in (0, row.most_steps + 1):
        with pytest.raises(RequestError) as caught:
            levels(schedule, steps, MODEL, sampler=row)
        (problem,) = caught.value.problems
        assert problem.field == "steps"
        assert row.name in problem.message
        assert f"1 to {row.most_steps}" in problem.message


@ALL_SAMPLERS
def test_zero_terminal_snr_stays_finite(row):
    noise_schedule = NoiseSchedule.from_config({"rescale_betas_zero_snr": True})
    noise = noise_of()
    for schedule in SCHEDULES:
        run = levels(schedule, 10, noise_schedule, sampler=row)
        for step in load(row)(denoise, noise.draw(0), run, noise=noise, eta=row.eta):
            assert step.latents.isfinite().all()


@ALL_SAMPLERS
def test_a_seed_means_one_result(row):
    assert torch.equal(final(row), final(row))
    assert not torch.equal(final(row), final(row, noise=noise_of(seed=6)))


@ALL_SAMPLERS
def test_more_frames_leave_the_first_ones_as_they_are(row):
    shorter, longer = (final(row, noise=noise_of(frames=frames)) for frames in (5, 8))
    assert torch.equal(shorter, longer[:, :, :5])


@ALL_SAMPLERS
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (4, 1, 3, 7), (3, 17, 1, 5)])
def test_any_shape_goes(row, shape):
    channels, frames, height, width = shape
    latents = final(row, noise=noise_of(channels=channels, frames=frames, height=height, width=width))
    assert latents.shape == (1, *shape)
    assert latents.isfinite().all()


@ALL_SAMPLERS
def test_only_samplers_that_take_an_eta_change_with_it(row):
    changed = not torch.equal(final(row, eta=0.0), final(row, eta=0.7))
    assert changed == row.takes_eta
    assert row.resolve_eta(None) == row.eta
    assert row.resolve_eta(0.7) == (0.7 if row.takes_eta else row.eta)


@pytest.mark.parametrize("row", [row for row in SAMPLERS.values() if not row.distilled], ids=lambda row: row.name)
def test_an_eta_of_zero_draws_no_noise(row):
    assert final(row, eta=0.0, draws=NoNoise()).isfinite().all()


@ALL_SAMPLERS
def test_each_draw_is_used_once_and_the_first_is_left_to_the_start(row):
    class Counting:
        drawn: tuple[int, ...] = ()

        def draw(self, index):
            self.drawn += (index,)
            return noise_of().draw(index)

    draws = Counting()
    final(row, steps=6, draws=draws, eta=1.0)
    assert len(set(draws.drawn)) == len(draws.drawn)
    assert set(draws.drawn) <= set(range(1, 7))
    assert bool(draws.drawn) == (row.takes_eta or row.distilled)


@ALL_SAMPLERS
def test_stopping_early_leaves_an_estimate_and_the_same_steps_as_a_whole_run(row):
    whole = list(steps_of(row))
    run = steps_of(row)
    begun = [next(run), next(run), next(run)]
    run.close()
    for mine, theirs in zip(begun, whole, strict=False):
        assert torch.equal(mine.denoised, theirs.denoised)
        assert torch.equal(mine.latents, theirs.latents)


@ALL_SAMPLERS
def test_a_step_is_not_changed_by_the_steps_after_it(row):
    start = noise_of().draw(0)
    copies = [(step, step.latents.clone(), step.denoised.clone()) for step in steps_of(row)]
    for step, latents, denoised in copies:
        assert torch.equal(step.latents, latents)
        assert torch.equal(step.denoised, denoised)
    assert torch.equal(start, noise_of().draw(0))


@ALL_SAMPLERS
def test_two_runs_side_by_side_do_not_mix(row):
    alone = [list(steps_of(row, noise=noise_of(seed=seed))) for seed in (1, 2)]
    beside = list(zip(*(steps_of(row, noise=noise_of(seed=seed)) for seed in (1, 2)), strict=True))
    for index, pair in enumerate(beside):
        for run, step in enumerate(pair):
            assert torch.equal(step.latents, alone[run][index].latents)


@ALL_SAMPLERS
def test_a_perfect_denoiser_is_believed(row):
    """Whatever the path, with the truth at each step the result is the truth, up to the terminal level's noise."""
    truth = torch.linspace(-1, 1, 4 * 3 * 6 * 5).reshape(1, 4, 3, 6, 5)
    noise = noise_of()
    run = levels("Trailing", 8, MODEL, sampler=row)
    *_, last = load(row)(lambda latents, level: truth, noise.draw(0), run, noise=noise, eta=row.eta)
    assert (last.latents - truth).abs().max() <= 4.5 * run[-1].sigma + 1e-3
    assert torch.allclose(last.denoised, truth, atol=1e-3)
