"""Number formats: what a part's weights are held in, what it computes in, and what comes after one that overflowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from t2v_core.errors import NonFiniteError

if TYPE_CHECKING:
    import torch

FP8 = "fp8"
FULL_PRECISION = "fp32"
_WIDER = {FP8: "bf16", "fp16": "bf16", "bf16": FULL_PRECISION}


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """`stored` is what the weights are held in, `computes` what they are widened to while a layer runs, often the same.

    With fp8, `stored` is the format of what stays in 16 bits, and of every tensor until it has been made narrow.
    """

    name: str
    stored: torch.dtype
    computes: torch.dtype

    @property
    def is_widened(self) -> bool:
        """Whether the weights are narrower than what is computed in."""
        return self.name == FP8 or self.stored is not self.computes


def number_format(name: str, *, device: str) -> NumberFormat:
    """The format of that name ("fp32", "fp16", "bf16" or "fp8") on a device."""
    import torch

    from t2v_core.rendering.devices import FORMATS, traits_of

    computes = traits_of(device).computes
    if name == FP8:
        stored = FORMATS[sixteen_bits(device)]
        # Of the 16-bit formats bf16 can't overflow, and its rounding is nothing beside fp8's.
        return NumberFormat(name, stored, FORMATS[next(one for one in ("bf16", "fp16", "fp32") if one in computes)])
    return NumberFormat(name, FORMATS[name], FORMATS[name] if name in computes else torch.float32)


def sixteen_bits(device: str) -> str:
    """What stays in 16 bits where the rest is in 8: bf16 where the device computes in it, or else its best half."""
    from t2v_core.rendering.devices import traits_of

    traits = traits_of(device)
    return "bf16" if "bf16" in traits.computes else traits.best_half


def wider(name: str, problem: NonFiniteError, *, device: str) -> str:
    """The format to try where one gave NaN: bf16, which can't overflow so soon, if the device computes in it, or fp32.

    Raises:
        NonFiniteError: there is nothing wider; the remedy says what to do.
    """
    from t2v_core.rendering.devices import traits_of

    while name != FULL_PRECISION:
        name = _WIDER[name]
        if name == FULL_PRECISION or name in traits_of(device).computes:
            return name
    raise NonFiniteError(
        problem.problem,
        remedy="The model's files may be damaged: python -m t2v_core doctor --thorough examines them. "
        "If they are whole, lower the CFG scale.",
    ) from problem
