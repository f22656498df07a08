"""What every sampler keeps under the shortcuts that know of steps: the number of calls, and nothing from run to run."""

from __future__ import annotations

import math

import pytest
import torch

from t2v_core.sampling import SAMPLERS, load
from t2v_core.sampling.denoiser import Prediction
from t2v_core.sampling.guidance import Texts, guided
from t2v_core.sampling.noise import FrameNoise
from t2v_core.sampling.reuse import DeepFeatures
from t2v_core.sampling.schedule import NoiseSchedule, levels

MODEL = NoiseSchedule.linear_sd()
COND, UNCOND = torch.full((2, 1, 3, 2), 0.3).mul(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))
ALL_SAMPLERS = pytest.mark.parametrize("row", SAMPLERS.values(), ids=SAMPLERS)
STEPS = 12


class Network:
    """Two layers, of which the first is deep; counts its calls and those of the deep one by clips in the batch."""

    def __init__(self):
        self.memo = lambda compute: compute()
        self.clips = 0
        self.deep_clips = 0

    def __call__(self, latents, timesteps, text):
        self.clips += len(text)

        def deep():
            self.deep_clips += len(text)
            return torch.tanh(latents.mean(dim=(3, 4), keepdim=True) + text.mean(dim=(1, 2)).reshape(-1, 1, 1, 1, 1))

        return torch.tanh(0.5 * latents + 0.5 * self.memo(deep) + timesteps.reshape(-1, 1, 1, 1, 1) / 900)


def run(row, *, every=1, until=1.0, split=False, scale=5.0):
    network = Network()
    noise = FrameNoise(5, 4, 3, 6, 5)
    steps = levels("Model", STEPS, MODEL, sampler=row)
    deep = DeepFeatures(steps, every=every) if every > 1 else None
    network.memo = deep or network.memo
    denoise = guided(
        network,
        Prediction.EPS,
        Texts.of(COND, UNCOND),
        scale=scale,
        split=split,
        until=steps[round(until * STEPS)] if until < 1 else None,
        announce=deep.announce if deep else None,
    )
    *_, last = load(row)(denoise, noise.draw(0), steps, noise=noise, eta=row.resolve_eta(None))
    return last.latents, network


@ALL_SAMPLERS
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("every", [2, 3, 5])
def test_the_deep_layer_runs_in_one_of_so_many_calls(row, every, split):
    exact, plain = run(row, split=split)
    near, network = run(row, every=every, split=split)
    assert network.clips == plain.clips
    calls_a_step = math.ceil(plain.clips / 2 / STEPS)
    assert network.deep_clips <= calls_a_step * 2 * math.ceil(STEPS / every)
    assert near.isfinite().all()
    assert not torch.equal(near, exact)


@ALL_SAMPLERS
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.99])
def test_guidance_takes_its_share_of_the_steps_and_no_more(row, share):
    guided_steps = round(share * STEPS)
    _, network = run(row, until=share)
    calls = run(row, scale=1.0)[1].clips
    assert network.clips == pytest.approx(calls * (1 + guided_steps / STEPS), abs=calls // STEPS)


@ALL_SAMPLERS
def test_guidance_of_no_step_is_no_guidance(row):
    assert torch.equal(run(row, until=0.0)[0], run(row, scale=1.0)[0])


@ALL_SAMPLERS
@pytest.mark.parametrize("split", [False, True])
def test_all_together_mean_one_result_however_the_halves_come(row, split):
    together, again = (run(row, every=3, until=0.5, split=half)[0] for half in (False, split))
    assert torch.allclose(together, again, atol=1e-5)
