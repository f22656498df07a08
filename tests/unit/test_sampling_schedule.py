"""Noise schedules from model configurations, and how steps are spread over them."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from t2v_core.errors import RequestError, WeightsError
from t2v_core.sampling import SAMPLERS
from t2v_core.sampling.schedule import Level, NoiseSchedule, levels

MODEL = NoiseSchedule.linear_sd()


def timesteps(name, steps, *, noise_schedule=MODEL, sampler="Euler"):
    return [level.timestep for level in levels(name, steps, noise_schedule, sampler=SAMPLERS[sampler])][:-1]


def test_the_1_7b_models_schedule_is_linear_in_the_roots_of_beta():
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    assert len(MODEL) == 1000
    assert np.allclose(MODEL.alphas_cumprod, np.cumprod(1 - betas), rtol=1e-12)
    assert MODEL.alphas_cumprod[-1] == pytest.approx(0.00466, abs=1e-5)


def test_a_level_is_variance_preserving_and_knows_its_other_names():
    level = MODEL.at(400)
    assert level.alpha**2 + level.sigma**2 == pytest.approx(1, rel=1e-14)
    assert level.exploding_sigma == pytest.approx(MODEL.exploding_sigmas[400], rel=1e-12)
    assert level.half_log_snr == pytest.approx(-math.log(level.exploding_sigma), rel=1e-12)
    again = Level.from_exploding_sigma(400, level.exploding_sigma)
    assert (again.alpha, again.sigma) == pytest.approx((level.alpha, level.sigma), rel=1e-12)
    assert Level(0.0, 1.0, 0.0).half_log_snr == math.inf


@pytest.mark.parametrize("timestep", [0, 0.25, 17.5, 500, 998.75, 999])
def test_timesteps_and_sigmas_are_each_others_inverse(timestep):
    level = MODEL.at(timestep)
    assert MODEL.at_exploding_sigma(level.exploding_sigma).timestep == pytest.approx(timestep, abs=1e-6)


@pytest.mark.parametrize("timestep", [-1, 999.5, 1000, math.nan])
def test_a_timestep_outside_of_training_is_refused(timestep):
    with pytest.raises(ValueError, match="0 to 999"):
        MODEL.at(timestep)


@pytest.mark.parametrize("steps", [count for count in range(1, 1000) if 1000 % count == 0])
def test_the_models_own_timesteps_are_the_references_where_steps_divide_1000(steps):
    reference = np.clip(1 + np.arange(0, 1000, 1000 // steps), 0, 999)[::-1]
    assert timesteps("Model", steps) == reference.tolist()


@pytest.mark.parametrize("steps", [3, 7, 30, 333, 501, 600, 999, 1000])
def test_other_counts_are_as_many_as_asked_and_even_over_the_whole_range(steps):
    taken = timesteps("Model", steps)
    assert len(taken) == steps
    gaps = {here - there for here, there in itertools.pairwise(taken)}
    assert gaps <= {1000 // steps, 1000 // steps + 1}
    assert taken[-1] in (0, 1)
    assert taken[0] >= 999 - math.ceil(1000 / steps)


@pytest.mark.parametrize("name", ["Model", "Trailing", "Karras"])
def test_every_count_has_distinct_falling_levels(name):
    for steps in [*range(1, 60), 128, 250, 334, 500, 999, 1000]:
        for sampler in ("Euler", "DDIM"):
            run = levels(name, steps, MODEL, sampler=SAMPLERS[sampler])
            assert len(run) == steps + 1
            assert all(here.half_log_snr < there.half_log_snr for here, there in itertools.pairwise(run))


def test_trailing_begins_at_the_last_timestep():
    assert timesteps("Trailing", 4) == [999, 749, 499, 249]
    assert timesteps("Trailing", 1) == [999]


def test_karras_spans_the_models_range_evenly_in_the_seventh_root():
    run = levels("Karras", 9, MODEL, sampler=SAMPLERS["Euler"])[:-1]
    roots = [level.exploding_sigma ** (1 / 7) for level in run]
    assert np.allclose(np.diff(roots), roots[1] - roots[0])
    assert [run[0].timestep, run[-1].timestep] == pytest.approx([999, 0], abs=1e-6)
    assert any(not level.timestep.is_integer() for level in run)


def test_ddim_ends_at_the_first_trained_level_as_the_reference_does():
    run = levels("Model", 50, MODEL, sampler=SAMPLERS["DDIM"])
    assert run[-1] == MODEL.at(0)
    assert run[-2].timestep == 1


def test_ddim_takes_no_step_from_the_first_trained_level_to_itself():
    for name, steps in (("Karras", 10), ("Model", 1000), ("Trailing", 1000)):
        run = levels(name, steps, MODEL, sampler=SAMPLERS["DDIM"])
        assert run[-2].timestep == pytest.approx(0, abs=1e-6)
        assert run[-1].sigma == 0


def test_lcm_takes_its_own_timesteps_whatever_the_schedule():
    for name in ("Model", "Karras", "Trailing"):
        assert timesteps(name, 4, sampler="LCM") == [999, 759, 499, 259]
    with pytest.raises(RequestError, match="1 to 50"):
        timesteps("Model", 51, sampler="LCM")


def test_a_schedule_of_another_length_is_spread_over_its_own_timesteps():
    short = NoiseSchedule.from_config({"num_train_timesteps": 100})
    assert timesteps("Model", 4, noise_schedule=short) == [76, 51, 26, 1]
    assert timesteps("Trailing", 4, noise_schedule=short) == [99, 74, 49, 24]
    assert timesteps("Model", 4, noise_schedule=short, sampler="LCM") == [99, 75, 49, 25]
    with pytest.raises(RequestError, match="1 to 100"):
        timesteps("Model", 101, noise_schedule=short)


def test_an_unknown_schedule_is_refused_by_name():
    with pytest.raises(RequestError, match="Did you mean 'Karras'"):
        timesteps("Kerras", 4)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing", None])
def test_a_model_trained_for_trailing_steps_has_them_as_its_own(spacing):
    trained = NoiseSchedule.from_config({"timestep_spacing": spacing})
    assert timesteps("Model", 4, noise_schedule=trained) == timesteps(
        "Trailing" if spacing == "trailing" else "Model", 4
    )


@pytest.mark.parametrize("kind", ["scaled_linear", "linear", "squaredcos_cap_v2"])
def test_zero_terminal_snr_keeps_the_first_level_and_ends_all_but_without_signal(kind):
    plain, rescaled = (
        NoiseSchedule.from_config({"beta_schedule": kind, "rescale_betas_zero_snr": rescale})
        for rescale in (False, True)
    )
    assert rescaled.alphas_cumprod[0] == pytest.approx(plain.alphas_cumprod[0])
    assert 0 < rescaled.alphas_cumprod[-1] <= 2**-24
    assert math.isfinite(rescaled.at(999).exploding_sigma)


def test_trained_betas_count_before_a_named_schedule():
    betas = np.linspace(0.001, 0.02, 50)
    schedule = NoiseSchedule.from_config({"trained_betas": betas.tolist(), "beta_schedule": "linear"})
    assert np.allclose(schedule.alphas_cumprod, np.cumprod(1 - betas))


def test_our_own_configurations_keys_are_read_too():
    config = {"num_timesteps": 500, "trained_betas": (), "rescale_betas_zero_snr": False, "prediction": "eps"}
    assert len(NoiseSchedule.from_config(config)) == 500


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"beta_schedule": "sigmoid"}, "beta_schedule = 'sigmoid'"),
        ({"beta_schedule": ["linear"]}, "beta_schedule"),
        ({"timestep_spacing": "log"}, "timestep_spacing"),
        ({"num_train_timesteps": "1000"}, "num_train_timesteps"),
        ({"num_train_timesteps": 0}, "num_train_timesteps"),
        ({"num_train_timesteps": True}, "num_train_timesteps"),
        ({"beta_start": "0.1"}, "beta_start"),
        ({"beta_start": 0.0}, "beta_start"),
        ({"beta_end": 1.5}, "beta_end"),
        ({"beta_end": math.nan}, "beta_end"),
        ({"beta_start": 0.5, "beta_end": 0.1}, "beta_start"),
        ({"beta_schedule": "linear", "beta_start": 0.9, "beta_end": 0.99}, "some signal is left"),
        ({"rescale_betas_zero_snr": "yes"}, "rescale_betas_zero_snr"),
        ({"rescale_betas_zero_snr": True, "num_train_timesteps": 1}, "rescale_betas_zero_snr"),
        ({"trained_betas": "none"}, "trained_betas"),
        ({"trained_betas": 5}, "trained_betas"),
        ({"trained_betas": [0.1, 2.0]}, "trained_betas"),
        ({"trained_betas": [[0.1], [0.2]]}, "trained_betas"),
        ({"trained_betas": [0.1] * 90, "num_train_timesteps": 100}, "100 numbers"),
    ],
)
def test_an_unknown_value_is_a_weights_error_that_names_it(config, named):
    with pytest.raises(WeightsError, match=named) as caught:
        NoiseSchedule.from_config(config)
    assert caught.value.remedy
    assert len(caught.value.problem) < 250


@pytest.mark.parametrize("values", [(), (0.5, 0.6), (1.0, 0.5), (0.5, 0.0), (0.5, math.nan)])
def test_a_schedule_must_fall_within_0_and_1(values):
    with pytest.raises(ValueError, match="fall"):
        NoiseSchedule(values)


def test_schedules_and_levels_are_values():
    assert NoiseSchedule.linear_sd() == MODEL
    assert hash(NoiseSchedule.linear_sd()) == hash(MODEL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        MODEL.at(3).alpha = 0.5  # type: ignore[misc]
