"""Larger frames: Lanczos by Pillow everywhere, and whatever upscalers the host has."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping

import numpy as np

from t2v_core.errors import Cancelled
from t2v_core.fields import closest
from t2v_core.host import Upscaler
from t2v_core.postprocess import MOST_BYTES, Footage, Means
from t2v_core.request import GenerationRequest, problem
from t2v_core.run import Notice, Run
from t2v_core.video import Frames, FrameSource, MadeFrames

logger = logging.getLogger(__name__)

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
        larger = self._upscaler(frame, width, height)
        # A host's upscaler knows its own factors alone, and may come out at another size.
        return larger if larger.shape == (height, width, 3) else lanczos(larger, width, height)


class Careful:
    """A host's upscaler that must not cost the clip: when it fails, Lanczos does the rest, and the user hears of it.

    So it goes on after a stop, too, if it `outlasts_stop`; otherwise it raises `Cancelled`.
    """

    def __init__(self, name: str, upscaler: Upscaler, run: Run, *, outlasts_stop: bool) -> None:
        self._name, self._upscaler, self._run = name, upscaler, run
        self._outlasts_stop = outlasts_stop
        self._made = 0
        self._has_ended = False

    def __call__(self, frame: Frames, width: int, height: int) -> Frames:
        """See `Upscaler`."""
        if not self._has_ended:
            try:
                self._run.raise_if_stopped()
                larger = _checked(self._upscaler(frame, width, height))
            except Exception as error:  # whatever it is: the upscaler is another program's
                self._end(error)
            else:
                self._made += 1
                return larger
        return lanczos(frame, width, height)

    def _end(self, error: Exception) -> None:
        if not isinstance(error, Cancelled):
            logger.exception("The upscaler %s failed", self._name)
        if self._run.stop is None:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            why = f"The upscaler {self._name} failed ({reason})"
        elif self._outlasts_stop:  # and whatever the error: some of a WebUI's upscalers fail when they're stopped
            why = f"You stopped before {self._name} was through"
        else:
            raise Cancelled from error
        self._has_ended = True
        self._run.report(Notice(f"{why}: lanczos makes the rest of the frames larger."))

    @property
    def made_by(self) -> str:
        """Who made the frames, for the recipe; nothing if it's who was asked for."""
        if not self._has_ended:
            return ""
        return f"{self._name}, from frame {self._made + 1} on {LANCZOS}" if self._made else LANCZOS


def careful(upscalers: Mapping[str, Upscaler], run: Run, *, outlasts_stop: bool) -> Mapping[str, Careful]:
    """A host's upscalers for one clip, each of them careful."""
    return {name: Careful(name, upscaler, run, outlasts_stop=outlasts_stop) for name, upscaler in upscalers.items()}


def notes_of(upscalers: Mapping[str, Careful], key: str) -> dict[str, str]:
    """What a recipe says under that key: who made the frames if it's not who was asked for, else nothing."""
    made_by = next((upscaler.made_by for upscaler in upscalers.values() if upscaler.made_by), "")
    return {key: made_by} if made_by else {}


def _checked(larger: Frames) -> Frames:
    """What a host's upscaler gave, if that's a frame, of whatever size."""
    larger = np.asarray(larger)
    if larger.ndim != 3 or larger.shape[2] != 3 or larger.dtype != np.uint8 or not larger.size:
        raise ValueError("it gave no RGB picture")
    return larger
