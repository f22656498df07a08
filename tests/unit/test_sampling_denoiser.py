"""What a network's output means, as an estimate of the clean latents."""

from __future__ import annotations

import pytest
import torch

from t2v_core.errors import WeightsError
from t2v_core.sampling.denoiser import Prediction
from t2v_core.sampling.schedule import NoiseSchedule

MODEL = NoiseSchedule.linear_sd()


@pytest.mark.parametrize("timestep", [0, 1, 400, 999])
@pytest.mark.parametrize("prediction", list(Prediction))
def test_the_true_prediction_gives_the_clean_latents(prediction, timestep):
    generator = torch.Generator().manual_seed(4)
    clean, eps = torch.randn(2, 1, 4, 2, 3, 3, generator=generator, dtype=torch.float64)
    level = MODEL.at(timestep)
    latents = level.alpha * clean + level.sigma * eps
    truth = {
        Prediction.EPS: eps,
        Prediction.V: level.alpha * eps - level.sigma * clean,
        Prediction.SAMPLE: clean,
    }[prediction]
    assert torch.allclose(prediction.to_clean(truth, latents, level), clean, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "prediction"),
    [
        ("eps", Prediction.EPS),
        ("epsilon", Prediction.EPS),
        ("v", Prediction.V),
        ("v_prediction", Prediction.V),
        ("x0", Prediction.SAMPLE),
        ("sample", Prediction.SAMPLE),
    ],
)
def test_predictions_have_modelscopes_and_diffusers_names(name, prediction):
    assert Prediction.named(name) is prediction


@pytest.mark.parametrize("name", ["flow_prediction", "EPS ", "", None, 3, ["eps"]])
def test_an_unknown_prediction_is_a_weights_error(name):
    with pytest.raises(WeightsError, match="prediction type"):
        Prediction.named(name)
