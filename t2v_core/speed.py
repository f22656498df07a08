"""How much of the exact picture may be given for time: the one table of speeds.

What each shortcut costs and gains stands, measured, in docs/speed.md; `python -m benchmarks.shortcuts` measures again.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Speed:
    """What one speed sets of the request's fields of these names, where they are left open; by itself, all are off."""

    reuse_features: int = 1
    guidance_until: float = 1.0
    merge_tokens: float = 0.0
    attention_window: int = 0

    def fills(self, *, steps: int) -> dict[str, Any]:
        """The fields by name, for a run of so many steps."""
        few = steps < FEWEST_STEPS_TO_REUSE
        return dataclasses.asdict(dataclasses.replace(self, reuse_features=1) if few else self)


EXACT = "Exact"

SPEEDS: dict[str, Speed] = {
    EXACT: Speed(),
    "Balanced": Speed(reuse_features=2),
    "Draft": Speed(reuse_features=4, guidance_until=0.75),
}
"""Every speed by the name that people choose."""

SHORTCUTS = tuple(field.name for field in dataclasses.fields(Speed))
"""The fields that a speed fills."""

FEWEST_STEPS_TO_REUSE = 10
"""In runs of fewer steps these lie too far apart for one to do with what an earlier one found."""

_OUTER_SHARE = 0.22
"""What of a pass is left where the deep features are reused."""


def passes(steps: int, *, is_guided: bool, reuse_features: int, guidance_until: float, conds: int = 1) -> int:
    """The time of a run's steps as a number of whole passes of the network over one clip.

    A step takes one for each of the texts that are followed, and one more for guidance.
    """
    guided_steps = round(guidance_until * steps) if is_guided else 0
    whole = -(-steps // reuse_features)
    share = (whole + _OUTER_SHARE * (steps - whole)) / steps
    return max(1, round((steps * conds + guided_steps) * share))
