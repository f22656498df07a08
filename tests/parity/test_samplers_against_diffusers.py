"""Each sampler's whole trajectory, and each schedule, against Diffusers' schedulers, which were written by others."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from t2v_core.sampling import SAMPLERS, load, unipc
from t2v_core.sampling.denoiser import Prediction
from t2v_core.sampling.noise import FrameNoise
from t2v_core.sampling.schedule import Level, NoiseSchedule, levels

diffusers = pytest.importorskip("diffusers", reason="Diffusers, the other implementation, isn't installed")

# Diffusers' schedulers hand torch tensors to np.array, which numpy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SCALED_LINEAR = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
ZERO_SNR = {**SCALED_LINEAR, "rescale_betas_zero_snr": True}
MODEL = NoiseSchedule.linear_sd()
NOISE = FrameNoise(seed=11, channels=4, frames=3, height=5, width=6)
TOLERANCE = 1e-4

PREDICTION_TYPES = {Prediction.EPS: "epsilon", Prediction.V: "v_prediction", Prediction.SAMPLE: "sample"}
TWINS = {
    "DDIM": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "DPM++ 2M SDE": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "UniPC": ("UniPCMultistepScheduler", {}),
    "Euler": ("EulerDiscreteScheduler", {}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "LCM": ("LCMScheduler", {}),
}
SPACINGS = {
    "leading": {"timestep_spacing": "leading", "steps_offset": 1},
    "trailing": {"timestep_spacing": "trailing"},
    "karras": {"use_karras_sigmas": True},
    "its own": {},
}
TRAJECTORIES = [
    *(
        (name, spacing, steps)
        for name in ("DPM++ 2M", "DPM++ 2M SDE", "UniPC", "Euler")
        for spacing in ("leading", "trailing", "karras")
        for steps in (1, 2, 7, 25, 50)
    ),
    *(("Euler a", spacing, steps) for spacing in ("leading", "trailing") for steps in (1, 2, 7, 25, 50)),
    *(("DDIM", "leading", steps) for steps in (1, 2, 7, 25, 50)),
    # For other counts than divisors of 1000 this twin's trailing steps end between its own timesteps.
    *(("DDIM", "trailing", steps) for steps in (1, 2, 5, 25, 50)),
    *(("LCM", "its own", steps) for steps in (1, 2, 4, 7, 25, 50)),
]


def twin_of(name, prediction=Prediction.EPS, config=SCALED_LINEAR, **options):
    kind, own = TWINS[name]
    if name == "Euler a" and prediction is Prediction.SAMPLE:
        prediction = Prediction.EPS  # it knows no x0 prediction: trajectory_of hands it the noise that follows from x0
    return getattr(diffusers, kind)(prediction_type=PREDICTION_TYPES[prediction], **config, **own, **options)


def network(latents, timestep):
    """Smooth and nonlinear, mixes frames and places, and no prediction type makes it explode."""
    moved = torch.roll(latents, shifts=(1, 1), dims=(2, 4))
    return 0.8 * torch.tanh(0.9 * latents + 0.4 * moved + float(timestep) / 700) + 0.1 * torch.sin(3 * latents)


def denoiser(prediction):
    return lambda latents, level: prediction.to_clean(network(latents, level.timestep), latents, level)


def levels_of(twin, noise_schedule):
    """Our levels at the twin's timesteps; where it has sigmas off the timesteps' (Karras), at those."""
    timesteps = [float(timestep) for timestep in twin.timesteps]
    if twin.config.get("use_karras_sigmas"):
        pairs = zip(timesteps, twin.sigmas.tolist()[:-1], strict=True)
        run = [Level.from_exploding_sigma(timestep, sigma) for timestep, sigma in pairs]
    else:
        run = [noise_schedule.at(timestep) for timestep in timesteps]
    last = noise_schedule.at(0) if isinstance(twin, diffusers.DDIMScheduler) else Level(0.0, 1.0, 0.0)
    return (*run, last)


def trajectory_of(twin, run_levels, monkeypatch, prediction, **step_options):
    """The twin's latents after each step, turned variance preserving, drawing the noise that ours draws."""
    exploding = isinstance(twin, (diffusers.EulerDiscreteScheduler, diffusers.EulerAncestralDiscreteScheduler))
    latents = NOISE.draw(0)
    if exploding:
        latents = latents / run_levels[0].alpha
    if hasattr(twin, "set_begin_index") and not isinstance(twin, diffusers.DDIMScheduler):
        twin.set_begin_index(0)
    for index, timestep in enumerate(twin.timesteps):
        fresh = NOISE.draw(index + 1)
        module = type(twin).__module__
        if not isinstance(twin, diffusers.UniPCMultistepScheduler):
            monkeypatch.setattr(f"{module}.randn_tensor", lambda *args, fresh=fresh, **kwargs: fresh)
        given = twin.scale_model_input(latents, timestep)
        output = network(given, timestep)
        if prediction is Prediction.SAMPLE and isinstance(twin, diffusers.EulerAncestralDiscreteScheduler):
            output = (given - run_levels[index].alpha * output) / run_levels[index].sigma
        latents = twin.step(output, timestep, latents, **step_options).prev_sample
        yield latents * run_levels[index + 1].alpha if exploding else latents


def worst_difference(name, twin, run_levels, monkeypatch, *, prediction, eta=None, **options):
    """The largest relative difference between the two over all steps."""
    row = SAMPLERS[name]
    steps = load(row, **options)(denoiser(prediction), NOISE.draw(0), run_levels, noise=NOISE, eta=row.resolve_eta(eta))
    step_options = {"eta": eta} if eta is not None else {}
    theirs = trajectory_of(twin, run_levels, monkeypatch, prediction, **step_options)
    differences = [
        float((ours.latents - their).norm() / their.norm()) for ours, their in zip(steps, theirs, strict=True)
    ]
    assert len(differences) == len(run_levels) - 1
    return max(differences)


@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize(("name", "spacing", "steps"), TRAJECTORIES)
def test_trajectory_is_the_twins(name, spacing, steps, prediction, monkeypatch):
    twin = twin_of(name, prediction, **SPACINGS[spacing])
    twin.set_timesteps(steps)
    assert len(twin.timesteps) == steps
    assert worst_difference(name, twin, levels_of(twin, MODEL), monkeypatch, prediction=prediction) <= TOLERANCE


@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddim_with_eta_is_the_twins(eta, prediction, monkeypatch):
    twin = twin_of("DDIM", prediction, **SPACINGS["leading"])
    twin.set_timesteps(20)
    run = levels("Model", 20, MODEL, sampler=SAMPLERS["DDIM"])
    assert worst_difference("DDIM", twin, run, monkeypatch, prediction=prediction, eta=eta) <= TOLERANCE


@pytest.mark.parametrize("order", [1, 3])
def test_unipc_of_other_orders_is_the_twins(order, monkeypatch):
    twin = twin_of("UniPC", solver_order=order, **SPACINGS["trailing"])
    twin.set_timesteps(12)
    monkeypatch.setattr(unipc, "sample", partial(unipc.sample, order=order))
    run = levels("Trailing", 12, MODEL, sampler=SAMPLERS["UniPC"])
    assert worst_difference("UniPC", twin, run, monkeypatch, prediction=Prediction.EPS) <= TOLERANCE


@pytest.mark.parametrize("timestep_scaling", [0.002, 4.0, 10.0])
def test_lcm_with_its_own_levels_is_the_twins(timestep_scaling, monkeypatch):
    """A tiny scaling is nobody's, but only there does the boundary condition show."""
    twin = twin_of("LCM", timestep_scaling=timestep_scaling)
    twin.set_timesteps(4)
    run = levels("Model", 4, MODEL, sampler=SAMPLERS["LCM"])
    difference = worst_difference(
        "LCM", twin, run, monkeypatch, prediction=Prediction.EPS, timestep_scaling=timestep_scaling
    )
    assert difference <= TOLERANCE


@pytest.mark.parametrize("name", ["DPM++ 2M", "DPM++ 2M SDE"])
def test_the_models_own_timesteps_give_the_twins_trajectory(name, monkeypatch):
    """These twins space their leading timesteps in another way, but take any that they are given."""
    run = levels("Model", 25, MODEL, sampler=SAMPLERS[name])
    twin = twin_of(name)
    twin.set_timesteps(timesteps=[int(level.timestep) for level in run[:-1]])
    assert worst_difference(name, twin, run, monkeypatch, prediction=Prediction.EPS) <= TOLERANCE


@pytest.mark.parametrize("name", ["DPM++ 2M", "DPM++ 2M SDE", "UniPC", "Euler", "Euler a"])
def test_zero_terminal_snr_is_the_twins(name, monkeypatch):
    noise_schedule = NoiseSchedule.from_config(ZERO_SNR)
    run = levels("Trailing", 25, noise_schedule, sampler=SAMPLERS[name])
    twin = twin_of(name, Prediction.V, ZERO_SNR, **SPACINGS["trailing"])
    twin.set_timesteps(25)
    assert worst_difference(name, twin, run, monkeypatch, prediction=Prediction.V) <= TOLERANCE


@pytest.mark.parametrize("steps", [count for count in range(1, 1000) if 1000 % count == 0])
def test_the_models_own_timesteps_are_the_twins_leading_ones(steps):
    for name in ("DDIM", "Euler"):
        twin = twin_of(name, **SPACINGS["leading"])
        twin.set_timesteps(steps)
        run = levels("Model", steps, MODEL, sampler=SAMPLERS[name])
        assert [level.timestep for level in run[:-1]] == twin.timesteps.tolist()


def test_trailing_timesteps_are_the_twins_for_every_count():
    twin = twin_of("DDIM", **SPACINGS["trailing"])
    for steps in range(1, 1001):
        twin.set_timesteps(steps)
        run = levels("Trailing", steps, MODEL, sampler=SAMPLERS["Euler"])
        theirs = twin.timesteps.tolist()
        assert len(theirs) in (steps, steps + 1)  # its arange can run one too far
        assert [level.timestep for level in run[:-1]] == theirs[:steps], steps


@pytest.mark.parametrize("steps", [2, 7, 25, 100])
def test_karras_levels_are_the_twins(steps):
    run = levels("Karras", steps, MODEL, sampler=SAMPLERS["Euler"])
    sigmas, timesteps = ([getattr(level, key) for level in run] for key in ("exploding_sigma", "timestep"))
    twin = twin_of("Euler", **SPACINGS["karras"])
    twin.set_timesteps(steps)
    assert np.allclose(sigmas, twin.sigmas, rtol=1e-4)
    assert np.allclose(timesteps[:-1], twin.timesteps, atol=0.02)
    twin = twin_of("DPM++ 2M", **SPACINGS["karras"])
    twin.set_timesteps(steps)
    assert np.allclose(sigmas, twin.sigmas, rtol=1e-4)
    assert np.allclose(timesteps[:-1], twin.timesteps, atol=0.52)  # this one rounds


@pytest.mark.parametrize("steps", range(1, 51))
def test_lcm_timesteps_are_the_twins(steps):
    twin = twin_of("LCM")
    twin.set_timesteps(steps)
    run = levels("Model", steps, MODEL, sampler=SAMPLERS["LCM"])
    assert [level.timestep for level in run[:-1]] == twin.timesteps.tolist()


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        SCALED_LINEAR,
        {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"trained_betas": np.linspace(0.001, 0.01, 400).tolist(), "num_train_timesteps": 400},
    ],
    ids=lambda config: config.get("beta_schedule", "trained"),
)
def test_alphas_cumprod_are_the_twins(config, rescale):
    config = {**config, "rescale_betas_zero_snr": rescale}
    twin = diffusers.EulerDiscreteScheduler(**config)
    ours = NoiseSchedule.from_config(dict(twin.config))
    # At the last timestep, where theirs is the stand-in for zero, it can be above the one before; ours never is.
    count = len(ours) - rescale
    assert np.allclose(ours.alphas_cumprod[:count], twin.alphas_cumprod[:count], rtol=1e-4, atol=1e-9)
    assert 0 < ours.alphas_cumprod[-1] <= 1.0001 * float(twin.alphas_cumprod[-1])


def test_rescaled_guidance_is_theirs():
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    from t2v_core.sampling.guidance import Texts, guided

    texts = torch.randn(2, 7, 8, generator=torch.Generator().manual_seed(0)).unbind()
    cond, uncond = (text[None] for text in texts)
    latents = NOISE.draw(0)

    def predict(latents, timesteps, text):
        return latents * text.std(dim=(1, 2)).reshape(-1, 1, 1, 1, 1) + text.mean(dim=(1, 2)).reshape(-1, 1, 1, 1, 1)

    level = MODEL.at(500)
    outputs = [predict(latents, None, text) for text in (cond, uncond)]
    combined = outputs[1] + 9.0 * (outputs[0] - outputs[1])
    theirs = rescale_noise_cfg(combined, outputs[0], guidance_rescale=0.7)
    ours = guided(predict, Prediction.SAMPLE, Texts.of(cond, uncond), scale=9.0, rescale=0.7)(latents, level)
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)
