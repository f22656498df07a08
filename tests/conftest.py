"""What every test shares: a process in which the oracles can be imported."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import hypothesis
import pytest
import torch

from benchmarks.torchvision import hide_if_broken
from t2v_core.host import Upscaler
from t2v_core.hosts.standalone import MODEL_FOLDERS

hide_if_broken()

# A busy machine is not an error of the code.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


class HostStub:
    """A host whose folders all lie in one place."""

    def __init__(self, folder: Path) -> None:
        self.models_folders = tuple(folder / "models" / name for name in MODEL_FOLDERS)
        self.output_folder = folder / "outputs"
        self.input_folders = None
        self.wildcard_folders = (folder / "wildcards",)

    def device(self) -> str:
        return "cpu"

    def upscalers(self) -> dict[str, Upscaler]:
        return {}

    def borrow_device(self) -> contextlib.nullcontext[None]:
        return contextlib.nullcontext()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process for each processor, but one where each test wants the machine to itself."""
    return 1 if config.getoption("markexpr") in ("full_size", "demo_accuracy", "browser") else os.cpu_count() or 1


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Small networks are quicker in one thread, many times so on a busy machine, where threads wait for each other."""
    torch.set_num_threads(os.cpu_count() or 1 if item.get_closest_marker("full_size") else 1)


@pytest.fixture
def host(tmp_path: Path) -> HostStub:
    return HostStub(tmp_path)
