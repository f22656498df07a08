"""The 1.7B network's files with random weights, written once for all of these tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_layouts import LAYOUTS, random_states

from t2v_core.models.modelscope.config import ModelConfig


@pytest.fixture(scope="session")
def states():
    return random_states(ModelConfig(), dtype=torch.float16)


@pytest.fixture(scope="session")
def original(states, tmp_path_factory) -> Path:
    """A folder `models` with the original four files in `ModelScope/t2v`."""
    models = tmp_path_factory.mktemp("full-size")
    LAYOUTS["original"](models / "ModelScope" / "t2v", ModelConfig(), states)
    return models
