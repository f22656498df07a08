"""Larger frames: Lanczos by Pillow everywhere, and whatever upscalers the host has."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from t2v_core.fields import closest
from t2v_core.host import Upscaler
from t2v_core.postprocess import MOST_BYTES, Footage, Means
from t2v_core.request import GenerationRequest, problem
from t2v_core.video import Frames, FrameSource

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


class Upscaled:
    """Frames of a source at another size; each is made when it's read."""

    def __init__(self, source: FrameSource, *, width: int, height: int, upscaler: Upscaler) -> None:
        self._source = source
        self._width, self._height = width, height
        self._upscaler = upscaler

    @property
    def shape(self) -> tuple[int, ...]:
        """(f, height, width, 3)."""
        return (len(self._source), self._height, self._width, 3)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: slice, /) -> Frames:
        wanted = range(*index.indices(len(self._source)))
        larger = np.empty((len(wanted), self._height, self._width, 3), np.uint8)
        for place, number in enumerate(wanted):
            larger[place] = self._one(self._source[number : number + 1][0])
        return larger

    def _one(self, frame: Frames) -> Frames:
        if frame.shape[:2] == (self._height, self._width):
            return frame
        larger = np.asarray(self._upscaler(frame, self._width, self._height), np.uint8)
        # A host's upscaler knows its own factors alone, and may come out at another size.
        same = larger.shape == (self._height, self._width, 3)
        return larger if same else lanczos(larger, self._width, self._height)
