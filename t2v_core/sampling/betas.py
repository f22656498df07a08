"""The training noise schedule that a model's configuration describes; float64, without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from t2v_core.errors import WeightsError

SMALLEST_ALPHA_CUMPROD = 2.0**-24
"""Stands for 0 at the last timestep of a schedule with zero terminal SNR, as in Diffusers, so nothing is infinite.

Where the timestep before has less signal than this (beta_schedule "linear"), it's half of that one's."""

Floats = npt.NDArray[np.float64]


def alphas_cumprod(config: Mapping[str, Any]) -> Floats:
    """The share of signal variance at each timestep, from the keys that `NoiseSchedule.from_config` names.

    Raises:
        WeightsError: for a value that is unknown or of the wrong kind; names the key.
    """
    config = {key: value for key, value in config.items() if value is not None}
    signal: Floats = np.cumprod(1.0 - _betas(config), dtype=np.float64)
    if one_of(config, "rescale_betas_zero_snr", (False, True)):
        signal = _with_zero_terminal_snr(signal)
    if signal[-1] == 0:
        signal[-1] = min([SMALLEST_ALPHA_CUMPROD, *signal[-2:-1] / 2])
    if not (np.diff(signal) < 0).all():
        raise _wrong("beta_end", config.get("beta_end"), "small enough that some signal is left at each timestep")
    return signal


def one_of(config: Mapping[str, Any], key: str, known: tuple[Any, ...]) -> Any:
    """The value of a key, by default the first of those known; raises `WeightsError` for any other value."""
    value = config.get(key)
    if value is None:
        return known[0]
    if value not in known:
        raise _wrong(key, value, " or ".join(repr(each) for each in known))
    return value


def _betas(config: Mapping[str, Any]) -> Floats:
    trained = _trained_betas(config)
    count = config.get("num_train_timesteps", config.get("num_timesteps", len(trained) or 1000))
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise _wrong("num_train_timesteps", count, "a whole number from 1")
    kind = one_of(config, "beta_schedule", ("scaled_linear", "linear", "squaredcos_cap_v2"))
    start, end = config.get("beta_start", 0.00085), config.get("beta_end", 0.0120)
    if len(trained):
        if len(trained) != count:
            raise _wrong("trained_betas", trained.tolist(), f"{count} numbers, as num_train_timesteps says")
        betas = trained
    elif kind == "squaredcos_cap_v2":
        betas = _cosine_betas(count)
    elif not all(isinstance(value, (int, float)) and 0 < value < 1 for value in (start, end)) or start > end:
        raise _wrong("beta_start and beta_end", (start, end), "numbers between 0 and 1, rising")
    elif kind == "linear":
        betas = np.linspace(start, end, count)
    else:
        betas = np.linspace(math.sqrt(start), math.sqrt(end), count) ** 2
    return betas


def _cosine_betas(count: int) -> Floats:
    """arXiv 2102.09672, eq. 17, with betas capped at 0.999."""
    signal = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.minimum(1.0 - signal[1:] / signal[:-1], 0.999)


def _with_zero_terminal_snr(signal: Floats) -> Floats:
    """Shift and scale the square roots so that the first stays and the last is 0 (arXiv 2305.08891, algorithm 1)."""
    roots = np.sqrt(signal)
    if len(roots) < 2:
        raise _wrong("rescale_betas_zero_snr", True, "false for a single timestep")
    return ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2


def _trained_betas(config: Mapping[str, Any]) -> Floats:
    """The list in the configuration, empty if there is none. The last may be 1: no signal at the last timestep."""
    given = config.get("trained_betas", ())
    try:
        betas = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise _wrong("trained_betas", given, "a list of numbers") from error
    if betas.ndim != 1 or not ((betas > 0).all() and (betas[:-1] < 1).all() and (betas <= 1).all()):
        raise _wrong("trained_betas", given, "a list of numbers between 0 and 1")
    return betas


def _wrong(key: str, value: object, wanted: str) -> WeightsError:
    shown = repr(value)
    return WeightsError(
        f"The model's noise schedule has {key} = {shown if len(shown) <= 80 else shown[:77] + '...'}; "
        f"it must be {wanted}.",
        remedy="Correct scheduler_config.json or configuration.json, or fetch the model's own again.",
    )
