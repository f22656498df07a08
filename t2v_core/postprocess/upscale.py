"""Larger frames: Lanczos by Pillow everywhere, and whatever upscalers the host has."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from t2v_core.fields import closest
from t2v_core.host import Upscaler
from t2v_core.postprocess import MOST_BYTES, Footage, Means
from t2v_core.request import GenerationRequest, problem
from t2v_core.video import Frames, FrameSource, MadeFrames

LANCZOS = "lanczos"
"""The upscaler that is always there."""


def process(footage: Footage, request: GenerationRequest, means: Means) -> Footage:
    """See `t2v_core.postprocess.Process`; the size is even, which every encoder takes.

    Raises:
        RequestError: the host has no such upscaler.
    """
    _, height, width, _ = footage.frames.shape
    larger = upscaled_size(width, height, factor=request.upscale)
    if larger == (width, height):
        return footage
    upscaler = find_upscaler(request.upscaler, means.upscalers)
    frames: FrameSource = Upscaled(footage.frames, width=larger[0], height=larger[1], upscaler=upscaler)
    if upscaler is not lanczos:
        frames = means.keep(frames)  # who comes after may read a frame more than once
    return dataclasses.replace(footage, frames=frames)


def upscaled_size(width: int, height: int, *, factor: float) -> tuple[int, int]:
    """Width and height so many times larger, as even numbers; what isn't enlarged stays as it is."""
    if factor == 1:
        return width, height
    return 2 * round(width * factor / 2), 2 * round(height * factor / 2)


def names(upscalers: Mapping[str, Upscaler]) -> tuple[str, ...]:
    """What the field `upscaler` may say here: our own first, then the host's."""
    return (LANCZOS, *(name for name in upscalers if name.lower() != LANCZOS))


def find_upscaler(name: str, upscalers: Mapping[str, Upscaler]) -> Upscaler:
    """The upscaler of a name, in whatever case; `upscalers` are the host's.

    Raises:
        RequestError: there is none, with what there is and where to get more.
    """
    if name.strip().lower() in ("", LANCZOS):
        return lanczos
    by_name = {each.lower(): upscaler for each, upscaler in upscalers.items()}
    try:
        return by_name[name.strip().lower()]
    except KeyError:
        if upscalers:
            where = "More go into the WebUI's models folder (ESRGAN, RealESRGAN …); it finds them when it starts."
        else:
            where = "Others are a WebUI's: make the clip in its txt2video tab."
        message = f"There is no upscaler {name!r} here. {closest(name, names(upscalers))} {where}"
        raise problem("upscaler", message) from None


def upscale(frames: FrameSource, *, width: int, height: int, upscaler: Upscaler | None = None) -> Iterator[Frames]:
    """The frames at another size, (n, height, width, 3) uint8 RGB a chunk, in order; Lanczos if none is named."""
    larger = Upscaled(frames, width=width, height=height, upscaler=upscaler or lanczos)
    some = max(1, MOST_BYTES // (width * height * 3))
    for first in range(0, len(larger), some):
        yield larger[first : first + some]


def lanczos(frame: Frames, width: int, height: int) -> Frames:
    """One frame (h, w, 3) to (height, width, 3), larger or smaller."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))


class Upscaled(MadeFrames):
    """Frames of a source at another size; each is made when it's read."""

    def __init__(self, source: FrameSource, *, width: int, height: int, upscaler: Upscaler) -> None:
        super().__init__(len(source), height=height, width=width)
        self._source, self._upscaler = source, upscaler

    def made(self, number: int) -> Frames:
        """Frame `number`, (h, w, 3)."""
        frame, (_, height, width, _) = self._source[number : number + 1][0], self.shape
        if frame.shape[:2] == (height, width):
            return frame
        larger = np.asarray(self._upscaler(frame, width, height), np.uint8)
        # A host's upscaler knows its own factors alone, and may come out at another size.
        return larger if larger.shape == (height, width, 3) else lanczos(larger, width, height)
