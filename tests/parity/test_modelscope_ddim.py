"""Our DDIM, guidance and UNet follow the whole trajectory of ModelScope's own sampler over its own UNet."""

from __future__ import annotations

import modelscope_oracle
import pytest
import torch
from random_weights import build, distance, fill, random_input
from torch import Tensor, nn

from t2v_core.models.modelscope.config import UNetConfig
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.sampling import SAMPLERS, load
from t2v_core.sampling.denoiser import Prediction
from t2v_core.sampling.guidance import Texts, guided
from t2v_core.sampling.noise import FrameNoise
from t2v_core.sampling.schedule import NoiseSchedule, levels

LARGEST_ERROR = 1e-4
CONFIG = UNetConfig(dim=32, dim_mult=(1, 2), num_heads=2, head_dim=16, res_blocks=1, attn_scales=(1.0,))
SHAPE = (1, 4, 3, 6, 8)
START = random_input("start", *SHAPE)
COND, UNCOND = random_input("cond", 1, 7, CONFIG.context_dim), random_input("uncond", 1, 7, CONFIG.context_dim)


def softened(network: nn.Module) -> nn.Module:
    """Two texts make little difference to a trained network; to a random one so much that guidance would run away."""
    network.out[-1].weight.mul_(0.3)  # type: ignore[union-attr, index, operator]
    return network


@pytest.fixture(scope="module")
def ours() -> nn.Module:
    return softened(fill(build(lambda: UNet3D(CONFIG))))


@pytest.fixture(scope="module")
def modelscopes() -> nn.Module:
    return softened(fill(build(lambda: modelscope_oracle.unet(CONFIG))))


def reference(network: nn.Module, *, steps: int, scale: float | None) -> Tensor:
    """ModelScope's loop with eta 0, as its pipeline calls it."""
    code = modelscope_oracle.load("diffusion")
    betas = code.beta_schedule("linear_sd", 1000, init_beta=0.00085, last_beta=0.0120)
    diffusion = code.GaussianDiffusion(betas, mean_type="eps", var_type="fixed_small", loss_type="mse")
    texts = {"y": COND} if scale is None else [{"y": COND}, {"y": UNCOND}]
    return diffusion.ddim_sample_loop(
        noise=START, model=network, model_kwargs=texts, guide_scale=scale, ddim_timesteps=steps, eta=0.0
    )


def sampled(network: nn.Module, *, steps: int, scale: float, split: bool = False) -> Tensor:
    row = SAMPLERS["DDIM"]
    denoise = guided(network, Prediction.EPS, Texts.of(COND, UNCOND), scale=scale, split=split)
    run = levels("Model", steps, NoiseSchedule.linear_sd(), sampler=row)
    noise = FrameNoise(0, *SHAPE[1:])
    *_, last = load(row)(denoise, START, run, noise=noise, eta=0.0)
    return last.latents


@pytest.mark.parametrize("steps", [50, 20])
def test_trajectory_ends_where_modelscopes_does(ours: nn.Module, modelscopes: nn.Module, steps: int) -> None:
    theirs = reference(modelscopes, steps=steps, scale=9.0)
    assert distance(sampled(ours, steps=steps, scale=9.0), theirs).worst <= LARGEST_ERROR


def test_guidance_in_two_calls_ends_there_too(ours: nn.Module, modelscopes: nn.Module) -> None:
    theirs = reference(modelscopes, steps=20, scale=9.0)
    assert distance(sampled(ours, steps=20, scale=9.0, split=True), theirs).worst <= LARGEST_ERROR


def test_scale_of_one_is_modelscopes_loop_without_guidance(ours: nn.Module, modelscopes: nn.Module) -> None:
    theirs = reference(modelscopes, steps=20, scale=None)
    assert distance(sampled(ours, steps=20, scale=1.0), theirs).worst <= LARGEST_ERROR


def test_both_texts_and_the_scale_count(ours: nn.Module) -> None:
    """Otherwise the comparisons above would say nothing about guidance."""
    scales = [sampled(ours, steps=20, scale=scale) for scale in (1.0, 5.0, 9.0)]
    assert distance(scales[0], scales[2]).worst > 0.01
    assert distance(scales[1], scales[2]).worst > 0.01


def test_noise_schedule_is_modelscopes() -> None:
    code = modelscope_oracle.load("diffusion")
    betas = code.beta_schedule("linear_sd", 1000, init_beta=0.00085, last_beta=0.0120)
    theirs = code.GaussianDiffusion(betas, var_type="fixed_small").alphas_cumprod
    ours = torch.tensor(NoiseSchedule.linear_sd().alphas_cumprod, dtype=torch.float64)
    assert distance(ours, theirs).worst <= 1e-12
