"""One thing to measure: what is done, with a clip of which size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.compare.sizes import Size

STEP, GUIDED, DECODE, END_TO_END, LOAD, START_UP = "step", "guided-step", "decode", "end-to-end", "load", "start-up"
WHATS = (STEP, GUIDED, DECODE, END_TO_END, LOAD, START_UP)


@dataclass(frozen=True, slots=True)
class Case:
    """`steps` and `sampler` count for whole clips alone."""

    what: str
    size: Size
    steps: int = 0
    sampler: str = ""

    @property
    def title(self) -> str:
        """As a table's line says it."""
        size = self.size
        clip = f"{size.frames} frames of {size.width}×{size.height}"
        if self.what == STEP:
            return f"UNet step, {clip}" + (f", batch {size.batch}" if size.batch > 1 else "")
        if self.what == GUIDED:
            return f"UNet step with guidance, {clip}"
        if self.what == DECODE:
            return f"decoding {clip}"
        if self.what == END_TO_END:
            return f"a clip, {clip}, {self.steps} steps with guidance"
        return {LOAD: "loading the model from the disk", START_UP: "from start to ready to load"}[self.what]

    @property
    def question(self) -> dict[str, Any]:
        """What a worker is asked for one go."""
        size = self.size
        asked: dict[str, Any] = {"size": [size.frames, size.width, size.height, size.batch]}
        if self.what == END_TO_END:
            return {"do": "generate", **asked, "steps": self.steps, "sampler": self.sampler}
        if self.what == GUIDED:
            return {"do": STEP, **asked, "guided": True}
        return {"do": self.what, **asked}


def is_about_files(case: Case) -> bool:
    """Whether it's about starting a process and loading its files, which go together."""
    return case.what in {LOAD, START_UP}
