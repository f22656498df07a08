"""Noise that a seed decides alone: the same on every device, and the same frame by frame for clips of any length."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor


@dataclass(frozen=True, slots=True)
class FrameNoise:
    """Unit normal noise for latents (1, channels, frames, height, width).

    Each frame of each draw has a CPU generator of its own, keyed by a hash of (seed, frame, draw), so frame 5 is the
    same in a clip of 16 and of 24 frames, and a draw doesn't depend on the draws before it. torch's CPU generator takes
    32 bits of a key: of the 1,200 frames of noise in a usual clip's whole run, two are alike once in 6,000 clips.
    """

    seed: int
    channels: int
    frames: int
    height: int
    width: int

    def draw(self, index: int) -> Tensor:
        """Draw `index`, (1, c, f, h, w) float32 on the CPU: 0 for the initial latents, i + 1 for sampling step i."""
        return rearrange([self._frame(frame, index) for frame in range(self.frames)], "f c h w -> 1 c f h w")

    def _frame(self, frame: int, index: int) -> Tensor:
        generator = torch.Generator(device="cpu").manual_seed(_key(self.seed, frame, index))
        shape = (self.channels, self.height, self.width)
        return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")


def _key(seed: int, frame: int, index: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{frame}/{index}".encode(), digest_size=4, person=b"t2v noise").digest()
    return int.from_bytes(digest, "little")
