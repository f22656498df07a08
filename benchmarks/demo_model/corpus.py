"""Clips as latents and captions as features, made once per stage and kept on disk: training never waits for them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from benchmarks.demo_model.captions import draw_caption
from benchmarks.demo_model.clips import SCENES, Canvas, draw
from benchmarks.demo_model.train_autoencoder import to_tensor
from benchmarks.demo_model.train_text import encode
from t2v_core.models.modelscope.text_encoder import TextEncoder
from t2v_core.models.modelscope.vae import Autoencoder

log = logging.getLogger(__name__)

CAPTIONS_EACH = 24
TRAINED = tuple(index for index, scene in enumerate(SCENES) if not scene.held_out)


@dataclass(frozen=True, slots=True)
class Clips:
    """Latents (n, c, f, h, w) in half precision, and the scene that each one shows, (n,) indices into SCENES."""

    latents: Tensor
    scenes: Tensor


def clips(canvas: Canvas, *, count: int, vae: Autoencoder, seed: int, folder: Path) -> Clips:
    """Clips of the scenes that training may see, read from the folder if they were made before."""
    path = folder / f"clips-{canvas.frames}x{canvas.side}-{count}-{seed}.pt"
    if not path.exists():
        log.info("drawing and encoding %d clips of %d frames, %d pixels", count, canvas.frames, canvas.side)
        rng = np.random.default_rng(seed)
        scenes = rng.choice(TRAINED, count)
        latents = torch.stack([_latents(int(index), canvas, vae=vae, rng=rng) for index in scenes])
        torch.save({"latents": latents, "scenes": torch.from_numpy(scenes)}, path)
    return Clips(**torch.load(path, weights_only=True, mmap=True))


@torch.no_grad()
def _latents(scene: int, canvas: Canvas, *, vae: Autoencoder, rng: np.random.Generator) -> Tensor:
    mean, _ = vae.encode(to_tensor(draw(SCENES[scene], canvas, rng)))
    return rearrange(mean, "f c h w -> c f h w").half()


@dataclass(frozen=True, slots=True)
class Captions:
    """Features of several captions for each scene, (scenes, captions, n, d), and those of no caption, (n, d)."""

    said: Tensor
    nothing: Tensor

    def draw(self, scenes: Tensor, *, empty: float) -> Tensor:
        """One of the captions of each scene (b,), or with probability `empty` none, as (b, n, d)."""
        which = torch.randint(self.said.shape[1], scenes.shape)
        unsaid = torch.rand(len(scenes)) < empty
        return torch.where(unsaid[:, None, None], self.nothing, self.said[scenes, which])


@torch.no_grad()
def captions(tower: TextEncoder, *, seed: int) -> Captions:
    """Captions that training may see, for every scene; those of held-out scenes are left at zero."""
    rng = np.random.default_rng(seed)
    said = torch.zeros(len(SCENES), CAPTIONS_EACH, tower.config.context_length, tower.config.width)
    for index in TRAINED:
        said[index] = tower(encode([draw_caption(SCENES[index], rng, for_training=True) for _ in range(CAPTIONS_EACH)]))
    return Captions(said=said, nothing=tower(encode([""]))[0])
