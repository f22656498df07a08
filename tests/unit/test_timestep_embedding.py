"""The sinusoids of a timestep: cosines first, frequencies from 1 down to almost 1/10,000."""

from __future__ import annotations

import math

import pytest
import torch

from t2v_core.models.modelscope.unet import timestep_embedding


@pytest.mark.parametrize("dim", [2, 16, 320])
@pytest.mark.parametrize("timestep", [0, 1, 13.25, 981, 999])
def test_is_the_closed_form(timestep: float, dim: int) -> None:
    half = dim // 2
    angles = [timestep * 10_000 ** (-i / half) for i in range(half)]
    expected = torch.tensor([*map(math.cos, angles), *map(math.sin, angles)], dtype=torch.float64)
    found = timestep_embedding(torch.tensor([timestep]), dim)[0]
    # Single precision's angles of up to 999 have an absolute error of 3e-5, and its frequencies one more.
    assert torch.allclose(found.double(), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float16, torch.float64])
def test_is_float32_whatever_the_timesteps_are(dtype: torch.dtype) -> None:
    found = timestep_embedding(torch.tensor([0, 7, 64], dtype=dtype), 16)
    assert found.dtype == torch.float32
    assert torch.equal(found, timestep_embedding(torch.tensor([0.0, 7.0, 64.0]), 16))


def test_each_row_is_its_timesteps_own() -> None:
    together = timestep_embedding(torch.tensor([0.0, 500.0, 999.0]), 32)
    assert together.shape == (3, 32)
    assert torch.equal(together[1:2], timestep_embedding(torch.tensor([500.0]), 32))
    assert not torch.equal(together[0], together[1])
