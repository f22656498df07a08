"""What is compared with the exact run: each shortcut by itself, and the speeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from t2v_core.request import GenerationRequest, ModelDefaults
from t2v_core.speed import EXACT, SHORTCUTS, SPEEDS

Changes = dict[str, Any]
"""Fields of a request that differ from the exact run's."""

VARIANTS: dict[str, Changes] = {
    EXACT: {},
    **{name: {"speed": name} for name in SPEEDS if name != EXACT},
    "reuse features 2": {"reuse_features": 2},
    "reuse features 3": {"reuse_features": 3},
    "reuse features 4": {"reuse_features": 4},
    "guidance until 0.75": {"guidance_until": 0.75},
    "guidance until 0.5": {"guidance_until": 0.5},
    "merge tokens 0.5": {"merge_tokens": 0.5},
    "attention window 4": {"attention_window": 4},
}
"""A window of 4 frames is for the clips of 8 that are made here."""


def distinct(variants: Mapping[str, Changes]) -> dict[str, str]:
    """The variants' names, each with the first one's that asks for the same: nothing is measured twice."""
    first: dict[str, str] = {}
    return {name: first.setdefault(_asked(changes), name) for name, changes in variants.items()}


def _asked(changes: Changes) -> str:
    request = GenerationRequest(**changes).resolve(ModelDefaults())
    return str([getattr(request, name) for name in SHORTCUTS])
