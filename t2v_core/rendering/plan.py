"""Which number format a run has: decided before it, from the device and its free memory."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.rendering.number_formats import FP8, FULL_PRECISION, sixteen_bits
from t2v_core.request import problem

if TYPE_CHECKING:
    import torch

AUTO = "auto"
PRECISIONS = (AUTO, "fp32", "fp16", "bf16", FP8)
"""What a request may ask for; "auto" is resolved by `resolve_precision`."""

VAE_PRECISIONS = (AUTO, "fp32", "fp16", "bf16")
"""The same for the autoencoder, for which "auto" is the network's own."""

FUSED = "fused"
ATTENTIONS = (AUTO, FUSED, "plain")
"""How attention is computed: "auto" is torch's fused kernel where the device has one that can be trusted."""

_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
# A forward pass needs room beside the weights; see "Memory" in docs/parity.md.
_ROOM_BESIDE_WEIGHTS = 1.3


class Rest(enum.Enum):
    """Where a model waits for the next run."""

    NOWHERE = enum.auto()
    MAIN_MEMORY = enum.auto()
    ON_DEVICE = enum.auto()


@dataclass(frozen=True, slots=True)
class Plan:
    """How one run uses the machine."""

    device: str
    precision: str
    vae_precision: str = AUTO

    def precision_of(self, part: Part) -> str:
        """The number format of one part: with fp8 only the UNet's, for the others are small or used once."""
        if part is Part.AUTOENCODER and self.vae_precision != AUTO:
            return self.vae_precision
        if part is not Part.UNET and self.precision == FP8:
            return sixteen_bits(self.device)
        return self.precision

    def with_precision(self, precision: str) -> Plan:
        """The same plan with another number format."""
        return dataclasses.replace(self, precision=precision)

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights."""
        import torch

        formats = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, FP8: torch.float8_e4m3fn}
        return formats[self.precision]


def resolve_precision(asked: str, *, device: str, parameters: int) -> str:
    """The number format of a run: what was asked, else a GPU's best half, and on a CPU fp32 if `parameters` fit so.

    Raises:
        RequestError: the device can't hold numbers of that format.
    """
    from t2v_core.rendering.devices import traits_of

    traits = traits_of(device)
    if asked not in (AUTO, *traits.stores):
        raise problem("precision", f"{traits.label} has no {asked}. Choose {' or '.join(traits.stores)}.")
    if asked != AUTO:
        return asked
    if not traits.is_cpu:
        return traits.best_half
    needed = parameters * _BYTES[FULL_PRECISION] * _ROOM_BESIDE_WEIGHTS
    return FULL_PRECISION if needed < free_memory() else "bf16"


def free_memory() -> int:
    """Bytes of main memory that are free to take."""
    import psutil

    return psutil.virtual_memory().available
