"""Noise that a seed decides alone: the same on every device, and the same frame by frame for clips of any length."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

GROUPS = 4
"""Groups of a window's frames within which noise is shuffled when it comes again."""


@dataclass(frozen=True, slots=True)
class FrameNoise:
    """Unit normal noise for latents (1, channels, frames, height, width).

    Each frame of each draw has a CPU generator of its own, keyed by a hash of (seed, frame, draw), so frame 5 is the
    same in a clip of 16 and of 24 frames, and a draw doesn't depend on the draws before it. torch's CPU generator takes
    32 bits of a key: of the 1,200 frames of noise in a usual clip's whole run, two are alike once in 6,000 clips.

    `stride` is the number of frames between those of the latents, for key frames that stand for a longer clip.

    With a `window` the initial noise of all later frames is the first window's once more, shuffled among neighbours:
    then all windows of a long clip show the same scene (FreeNoise, arXiv 2310.15169, section 3.2).
    """

    seed: int
    channels: int
    frames: int
    height: int
    width: int
    stride: int = 1
    window: int = 0

    def draw(self, index: int) -> Tensor:
        """Draw `index`, (1, c, f, h, w) float32 on the CPU: 0 for the initial latents, i + 1 for sampling step i."""
        numbers: Iterable[int] = range(0, self.frames * self.stride, self.stride)
        if self.window and index == 0:
            numbers = [self._repeated(number) for number in numbers]
        return rearrange([self._frame(number, index) for number in numbers], "f c h w -> 1 c f h w")

    def _repeated(self, frame: int) -> int:
        """Which frame of the first window's noise a frame has: groups of neighbours come again, each newly shuffled."""
        size = max(1, self.window // GROUPS)
        group, place = divmod(frame, size)
        if group < GROUPS:
            return frame
        generator = torch.Generator(device="cpu").manual_seed(_key(self.seed, group, "group"))
        return size * (group % GROUPS) + int(torch.randperm(size, generator=generator)[place])

    def _frame(self, frame: int, index: int) -> Tensor:
        generator = torch.Generator(device="cpu").manual_seed(_key(self.seed, frame, index))
        shape = (self.channels, self.height, self.width)
        return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")


def _key(seed: int, frame: int, index: int | str) -> int:
    digest = hashlib.blake2b(f"{seed}/{frame}/{index}".encode(), digest_size=4, person=b"t2v noise").digest()
    return int.from_bytes(digest, "little")
