"""What is measured: the sizes of clips by name, and the networks that they are measured with."""

from __future__ import annotations

from dataclasses import dataclass

from t2v_core.models.modelscope.config import AutoencoderConfig, ModelConfig, TextConfig, UNetConfig

CELL = 8
"""Pixels along one side of a latent cell, of the published autoencoder and of the small one."""


@dataclass(frozen=True, slots=True)
class Size:
    """A clip of `frames` pictures; `batch` is how many of them the UNet sees at once."""

    frames: int
    width: int
    height: int
    batch: int = 1

    @property
    def name(self) -> str:
        """As people say it: 256x256x16."""
        several = f" batch {self.batch}" if self.batch > 1 else ""
        return f"{self.width}x{self.height}x{self.frames}{several}"

    @property
    def latents(self) -> tuple[int, int, int, int, int]:
        """(b, c, f, h, w) of its latents."""
        return self.batch, 4, self.frames, self.height // CELL, self.width // CELL


SIZES = {
    size.name: size
    for size in (
        Size(8, 128, 128),
        Size(16, 256, 256),
        Size(24, 256, 256),
        Size(24, 576, 320),
        Size(24, 1024, 576),
        Size(125, 256, 256),
    )
}
"""The sizes that have a name in the tables; 128x128x8 is 8 frames of 16×16 latents, which a CPU does in seconds."""

TINY_SIZE = Size(3, 64, 64)
"""For --small: as little as still halves three times."""

FULL = ModelConfig()
"""The 1.7B model."""

# ModelScope's code has the text's width of 1024 written into its decoder and 32 groups into its norms; Diffusers' has
# 8 heads in its first transformer. Prompts have the real tokens.
SMALL = ModelConfig(
    unet=UNetConfig(dim=32, num_heads=8, head_dim=16),
    vae=AutoencoderConfig(dim=32, res_blocks=1),
    text=TextConfig(layers=2),
)


def parse_size(text: str) -> Size:
    """A size as WIDTHxHEIGHTxFRAMES.

    Raises:
        ValueError: with what was wrong.
    """
    try:
        width, height, frames = (int(part) for part in text.lower().replace("×", "x").split("x"))
    except ValueError:
        raise ValueError(f"{text!r} is no size: write WIDTHxHEIGHTxFRAMES, such as 256x256x16") from None
    if min(width, height) < 8 * CELL or width % (8 * CELL) or height % (8 * CELL) or frames < 1:
        raise ValueError(f"{text}: width and height are multiples of {8 * CELL}, or ModelScope's own code fails")
    return Size(frames, width, height)
