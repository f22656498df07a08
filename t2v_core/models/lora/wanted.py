"""What a request says about LoRAs: "name" or "name:weight" in its field, `<lora:name:weight>` in the prompt."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from t2v_core.errors import RequestError
from t2v_core.request import GenerationRequest, problem

FIELD = "lora"
LARGEST_WEIGHT = 10.0

# The WebUI's syntax; what stands before it in the line's white space goes with it.
_TAG = re.compile(r"[ \t]*<lora:([^<>:]+)(?::([^<>]*))?>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One LoRA of a request: its name or path as it was typed, and how strongly it counts."""

    name: str
    weight: float = 1.0

    def __str__(self) -> str:
        return self.name if self.weight == 1 else f"{self.name}:{self.weight:.12g}"


def parse(text: str) -> tuple[Wanted, ...]:
    """The LoRAs that a text names, in its order; of a name that stands twice the last weight counts.

    Raises:
        RequestError: a weight is no number, or too large, or there is no name.
    """
    wanted: dict[str, Wanted] = {}
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        name, colon, weight = entry.rpartition(":")
        # What follows a drive's colon is a path.
        if not colon or "/" in weight or "\\" in weight:
            name, weight = entry, "1"
        wanted[name.strip().casefold()] = Wanted(_name(name, entry), _weight(weight, entry))
    return tuple(wanted.values())


def written(wanted: Iterable[Wanted]) -> str:
    """The text that `parse` reads."""
    return ", ".join(map(str, wanted))


def take_from_prompt(request: GenerationRequest) -> GenerationRequest:
    """The request with its prompt's `<lora:name:weight>` in the field instead; a weight in the prompt counts more.

    Raises:
        RequestError: as `parse`.
    """
    tags = [f"{name}:{weight or 1}" for name, weight in _TAG.findall(request.prompt)]
    if not tags:
        return request
    wanted = parse(", ".join([request.lora, *tags]))
    return request.with_field("prompt", _TAG.sub("", request.prompt).strip()).with_field(FIELD, written(wanted))


def _name(name: str, entry: str) -> str:
    if not name.strip():
        raise _malformed(entry)
    return name.strip()


def _weight(text: str, entry: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        raise _malformed(entry) from None
    if not math.isfinite(weight) or abs(weight) > LARGEST_WEIGHT:
        raise problem(FIELD, f"A LoRA's weight is -{LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g}, not {text.strip()!r}.")
    return weight


def _malformed(entry: str) -> RequestError:
    return problem(FIELD, f'A LoRA is "name" or "name:weight", as in "style:0.8", not {entry[:100]!r}.')
