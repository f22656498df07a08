"""Lines such as `0: a seed`, `50%: a sprout` and `2s: a tree` in a prompt: what a clip shows at which of its frames."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from t2v_core.request import problem

# No digit after the colon: "16:9" and "10:30" are no key frames.
_KEY = re.compile(
    r"\s*(?:(?P<frame>[0-9]{1,9})|(?P<number>[0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(?P<unit>%|s))\s*:(?![0-9])(?P<text>.*)"
)
_JOINTS = ("AND", "BREAK")


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a clip is, and whether its last frame leads back to the first."""

    frames: int
    fps: float
    is_loop: bool = False

    def frame(self, value: float, unit: str) -> int:
        """The frame that is so many frames, seconds (s) or percent of the clip from its beginning; may lie outside."""
        last = self.frames if self.is_loop else self.frames - 1
        if unit == "%":
            return self._within(round(value / 100 * last)) if value <= 100 else self.frames + round(value)
        if unit == "s":
            # A clip of two seconds ends at 2 s.
            return self._within(round(value * self.fps))
        return round(value)

    def _within(self, frame: int) -> int:
        return self.frames - 1 if frame == self.frames else frame


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """What the whole prompt says at a frame, counted from 0."""

    frame: int
    text: str


def key_frames(prompt: str, timing: Timing, *, field: str = "prompt") -> tuple[KeyFrame, ...]:
    """The key frames of a prompt, in the clip's order; a prompt without any is one for the whole clip.

    Lines before the first key frame and after the last one belong to each; a line in between goes on with the one
    before it.

    Raises:
        RequestError: a key frame lies outside the clip, or there are two for one frame.
    """
    lines = prompt.split("\n")
    matches = [_KEY.fullmatch(line.rstrip("\r")) for line in lines]
    places = [place for place, match in enumerate(matches) if match]
    if not places:
        return (KeyFrame(0, prompt),)
    head, tail = lines[: places[0]], lines[places[-1] + 1 :]
    keys: dict[int, KeyFrame] = {}
    for place, end in zip(places, [*places[1:], places[-1] + 1], strict=True):
        match = matches[place]
        assert match is not None
        frame = timing.frame(float(match["frame"] or match["number"]), match["unit"] or "")
        _check(frame, lines[place], keys, timing=timing, field=field)
        keys[frame] = KeyFrame(frame, _joined([*head, match["text"], *lines[place + 1 : end], *tail]))
    return tuple(keys[frame] for frame in sorted(keys))


def _check(frame: int, line: str, keys: Iterable[int], *, timing: Timing, field: str) -> None:
    named = line.strip()[:60]
    if frame >= timing.frames:
        raise problem(
            field,
            f"The key frame {named!r} lies beyond the clip, whose frames are 0 to {timing.frames - 1} at "
            f"{timing.fps:g} a second. Where such a line is no key frame, write a backslash before its colon.",
        )
    if frame in keys:
        raise problem(field, f"There are two key frames for frame {frame}; the second is {named!r}.")


def _joined(lines: Sequence[str]) -> str:
    """The lines as one, with a comma between them where there is none and none is out of place."""
    text = ""
    for line in filter(None, (line.strip() for line in lines)):
        starts, ends = line.split(maxsplit=1)[0] in _JOINTS, bool(text) and text.rsplit(maxsplit=1)[-1] in _JOINTS
        comma = "" if not text or starts or ends or text.endswith(",") or line.startswith(",") else ","
        text = f"{text}{comma} {line}" if text else line
    return text
