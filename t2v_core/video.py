"""What a renderer answers: frames, and everything needed to make them again."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from t2v_core.request import GenerationRequest

Frames = npt.NDArray[np.uint8]


class FrameSource(Protocol):
    """Frames (f, h, w, 3) uint8 RGB that needn't all be in memory: an array, or a file that is read in pieces."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(f, h, w, 3)."""
        ...

    def __len__(self) -> int:
        """How many frames there are."""
        ...

    def __getitem__(self, index: slice, /) -> Frames:
        """Some of them, (n, h, w, 3), in memory."""
        ...


class MadeFrames(abc.ABC):
    """A `FrameSource` of so many frames of a size, each of them made when it's read."""

    def __init__(self, count: int, *, height: int, width: int) -> None:
        self._shape = (count, height, width, 3)

    @property
    def shape(self) -> tuple[int, ...]:
        """(f, h, w, 3)."""
        return self._shape

    def __len__(self) -> int:
        return self._shape[0]

    def __getitem__(self, index: slice, /) -> Frames:
        wanted = range(*index.indices(len(self)))
        made = np.empty((len(wanted), *self._shape[1:]), np.uint8)
        for place, number in enumerate(wanted):
            made[place] = self.made(number)
        return made

    @abc.abstractmethod
    def made(self, number: int) -> Frames:
        """Frame `number`, (h, w, 3)."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which weights made a video: the name people see and the first ten hex digits of the UNet file's SHA-256."""

    name: str
    hash: str


@dataclass(frozen=True, slots=True)
class Video:
    """Frames, (f, h, w, 3) uint8 RGB, with the resolved request of exactly this clip (its own seed, count 1).

    `partial` says that the run was stopped after `steps_done` of the request's steps, or in decoding.
    `notes` are further facts for the infotext; `versions` are of the programs that the frames depend on.
    """

    frames: FrameSource
    request: GenerationRequest
    model: ModelIdentity
    steps_done: int
    partial: bool = False
    notes: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        first = self.frames[:1]
        if len(self.frames.shape) != 4 or self.frames.shape[-1] != 3 or first.dtype != np.uint8:
            raise ValueError(f"frames are (f, h, w, 3) uint8, not {self.frames.shape} {first.dtype}")
