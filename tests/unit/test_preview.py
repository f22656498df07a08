"""The live preview looks like what is being made, at the size of the latents."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from einops import rearrange
from safetensors.torch import load_file

from benchmarks.demo_model.clips import SCENES, Canvas, draw
from benchmarks.demo_model.export import PREFIX
from benchmarks.demo_model.preview import fit_preview_map, shrink
from benchmarks.demo_model.train_autoencoder import to_tensor
from t2v_core.hosts.standalone import StandaloneHost
from t2v_core.models.catalogue import DEMO, find_model
from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.models.modelscope.vae import Autoencoder
from t2v_core.rendering.local_model import LocalModel
from t2v_core.rendering.plan import Plan
from t2v_core.run import Run


@pytest.fixture(scope="module")
def demo():
    return LocalModel(find_model(DEMO, StandaloneHost().models_folders), Plan(device="cpu", precision="fp32"), Run())


@pytest.fixture(scope="module")
def autoencoder():
    folder = find_model(DEMO, StandaloneHost().models_folders)
    network = Autoencoder(folder.config.vae)
    state = load_file(folder.folder / folder.config.files.autoencoder)
    network.load_state_dict({key.removeprefix(PREFIX): value.float() for key, value in state.items()})
    return network.requires_grad_(False).eval()


def test_the_preview_of_a_clip_resembles_the_clip_shrunk(demo, autoencoder):
    rng, errors, likeness = np.random.default_rng(1), [], []
    for scene in SCENES[::31]:
        frames = to_tensor(draw(scene, Canvas(frames=4), rng))
        latents = rearrange(autoencoder.encode(frames)[0], "f c h w -> c f h w") * autoencoder.config.scale_factor
        shown = demo.preview(latents)
        assert shown.shape == (4, 8, 8, 3)
        small = rearrange((shrink(frames, 8) + 1) * 127.5, "f c h w -> f h w c").numpy()
        errors.append(np.abs(shown - small).mean())
        likeness.append(np.corrcoef(shown.ravel(), small.ravel())[0, 1])
    # Measured: 13.6 of 255 and 0.83. One color for each cell can't say where in it an edge runs.
    assert np.mean(errors) < 18
    assert max(errors) < 30
    assert np.mean(likeness) > 0.75


def test_the_map_in_the_demo_models_configuration_is_the_one_that_an_export_writes(demo, autoencoder):
    written = torch.tensor(autoencoder.config.preview_map)
    assert torch.allclose(torch.tensor(fit_preview_map(autoencoder)), written, atol=0.002)


def test_latents_of_any_shape_and_size_of_values_become_bytes(demo):
    latents = torch.cat([torch.zeros(4, 1, 2, 5), torch.full((4, 1, 2, 5), 1e6), torch.full((4, 1, 2, 5), -1e6)], dim=1)
    for dtype in (torch.float32, torch.float16):
        shown = demo.preview(latents.clamp(-6e4, 6e4).to(dtype))
        assert shown.shape == (3, 2, 5, 3)
        assert shown.dtype == np.uint8
        assert set(np.unique(shown[1:])) <= {0, 255}


def test_what_no_configuration_says_is_previewed_as_stable_diffusion_1():
    *channels, offset = ModelConfig().vae.preview_map
    gray = (np.array(offset) + 1) * 127.5
    assert np.ptp(gray) < 40
    assert np.abs(gray - 127.5).max() < 25
    light = np.array(channels).sum(axis=1)
    assert (light > 0).tolist() == [True, True, True, False]


def test_a_preview_is_the_same_inside_and_outside_of_the_run(demo):
    latents = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        inside = latents.clone()
        shown = demo.preview(inside)
    assert np.array_equal(shown, demo.preview(latents))
    assert np.array_equal(shown, demo.preview(inside))
