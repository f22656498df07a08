"""What is done to finished frames before they are encoded: the table of processors, one file each; no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from t2v_core.host import Upscaler
from t2v_core.request import GenerationRequest
from t2v_core.video import FrameSource

MOST_BYTES = 8 * 2**20
"""How much of a clip whoever goes through it holds at a time; one frame at least."""


@dataclass(frozen=True, slots=True)
class Footage:
    """Frames on their way to the encoder, and how many of them are shown a second.

    `is_loop` says that the first frame follows the last one. Frames that a processor makes come into being when they
    are read: read them in order, and once.
    """

    frames: FrameSource
    fps: Fraction
    is_loop: bool = False


@dataclass(frozen=True, slots=True)
class Means:
    """What a processor may need beside the footage: the host's upscalers, by name.

    `keep` goes through frames that are slow to make, once, and gives the same frames from where they can be read again.
    """

    upscalers: Mapping[str, Upscaler] = field(default_factory=dict)
    keep: Callable[[FrameSource], FrameSource] = lambda frames: frames


Process = Callable[[Footage, GenerationRequest, Means], Footage]
"""`process(footage, request, means)`: the footage as the request's fields want it; the very same if they want nothing.

Whatever it returns holds a bounded number of frames in memory, may be read by slices in any order and thread, and never
changes the frames it was given.
"""


@dataclass(frozen=True, slots=True)
class Processor:
    """A row: its name, the field of the request that turns it on, and the module with its `process`."""

    name: str
    field: str
    module: str

    def is_wanted(self, request: GenerationRequest) -> bool:
        """Whether the request asks for it; without that nothing of it is imported."""
        from t2v_core.request import FIELDS

        row, value = FIELDS[self.field], getattr(request, self.field)
        return value not in (None, row.default, row.spec.off)

    def load(self) -> Process:
        """The processor's `process`, imported now."""
        return importlib.import_module(self.module).process


PROCESSORS = {
    processor.name: processor
    for processor in (
        # Upscaled first, while there are fewest frames; frames in between are made of the finished ones.
        Processor("upscale", "upscale", "t2v_core.postprocess.upscale"),
        Processor("ping-pong", "ping_pong", "t2v_core.postprocess.ping_pong"),
        Processor("interpolate", "output_fps", "t2v_core.postprocess.interpolate"),
    )
}
"""Every processor by name, in the order in which they work."""

INTERPOLATIONS = ("motion", "blend", "repeat")
"""How frames in between are made; the first is the default."""


def process(footage: Footage, request: GenerationRequest, means: Means) -> Footage:
    """The footage after every processor that the request asks for, in the table's order."""
    for processor in PROCESSORS.values():
        if processor.is_wanted(request):
            footage = processor.load()(footage, request, means)
    return footage


def rate(fps: float | Fraction) -> Fraction:
    """Frames a second as the fraction that was meant: 23.976 is 2997/125."""
    return fps if isinstance(fps, Fraction) else Fraction(repr(float(fps))).limit_denominator(10_000)
