"""The one signature of all denoisers, and what a network's output means."""

from __future__ import annotations

import enum
from collections.abc import Callable

from torch import Tensor

from t2v_core.errors import WeightsError
from t2v_core.sampling.schedule import Level

Denoise = Callable[[Tensor, Level], Tensor]
"""Noisy latents (1, c, f, h, w) at a level to the estimate of the clean latents, of the same shape."""


class Prediction(str, enum.Enum):
    """What a network was trained to predict, with x = alpha * x0 + sigma * eps."""

    EPS = "eps"
    """The noise, eps."""
    V = "v"
    """The velocity, alpha * eps - sigma * x0 (arXiv 2202.00512, appendix D)."""
    SAMPLE = "x0"
    """The clean latents, x0."""

    @classmethod
    def named(cls, name: object) -> Prediction:
        """By the name in a model's files: ModelScope's mean_type or Diffusers' prediction_type.

        Raises:
            WeightsError: if the name is unknown.
        """
        known = {"eps": cls.EPS, "epsilon": cls.EPS, "v": cls.V, "v_prediction": cls.V, "x0": cls.SAMPLE}
        known["sample"] = cls.SAMPLE
        if not isinstance(name, str) or name not in known:
            raise WeightsError(
                f"The model's prediction type is {name!r}; this program knows {', '.join(known)}.",
                remedy="Correct scheduler_config.json or configuration.json, or choose another model.",
            )
        return known[name]

    def to_clean(self, output: Tensor, latents: Tensor, level: Level) -> Tensor:
        """The estimate of x0 from the network's output for these latents at this level, all of one shape."""
        if self is Prediction.EPS:
            return (latents - level.sigma * output) / level.alpha
        if self is Prediction.V:
            return level.alpha * latents - level.sigma * output
        return output
