"""All that a clip's prompt and negative prompt say, frame by frame and step by step, as texts that can be encoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from t2v_core.prompts.composition import Composed, composed
from t2v_core.prompts.editing import SecondPass, Stretch, schedule, text_at
from t2v_core.prompts.emphasis import phrases
from t2v_core.prompts.key_frames import Timing, key_frames
from t2v_core.request import problem

LARGEST_WEIGHT = 1e4
"""Of a phrase or of one of several texts: far beyond what any model can follow, and still a number in 16 bits."""

LINEAR, SPHERICAL, CUT = "linear", "spherical", "cut"
BLENDS = (LINEAR, SPHERICAL, CUT)
"""How a clip gets from one key frame to the next: by its texts' features, in a straight line or at their length, or not
at all until the next one begins."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of the texts that a clip follows at once, over the steps."""

    stretches: tuple[Stretch, ...]
    weight: float = 1.0

    def text(self, step: int) -> str:
        """What it says in a sampling step, counted from 0."""
        return text_at(self.stretches, step)


@dataclass(frozen=True, slots=True)
class Key:
    """What a clip follows at a frame."""

    frame: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """Where a frame lies: `share` of the way, below 1, from one key to the other, both given by their index."""

    key: int
    other: int
    share: float


@dataclass(frozen=True, slots=True)
class Track:
    """A prompt over a clip: at least one key, in order of their frames, each with as many parts."""

    keys: tuple[Key, ...]
    timing: Timing

    def between(self, frame: int) -> Between:
        """Which keys a frame of the clip lies between; before the first and after the last one alone counts.

        In a closed loop the last key leads to the first.
        """
        frames = [key.frame for key in self.keys]
        last = len(frames) - 1
        before = sum(each <= frame for each in frames) - 1
        if 0 <= before < last:
            return _share(before, before + 1, frame - frames[before], frames[before + 1] - frames[before])
        if last and self.timing.is_loop:
            length = self.timing.frames
            return _share(last, 0, (frame - frames[last]) % length, (frames[0] - frames[last]) % length)
        only = max(before, 0)
        return Between(only, only, 0.0)

    def texts(self) -> tuple[str, ...]:
        """Every text that it ever says, each once, in order."""
        return tuple(dict.fromkeys(_texts(self.keys)))

    @property
    def parts(self) -> int:
        """How many texts it says at once."""
        return len(self.keys[0].parts)

    def is_whole(self, scale: float) -> bool:
        """Whether the weights of what it says at once, so many times over, are 1 for every frame."""
        return all(abs(scale * sum(part.weight for part in key.parts) - 1) < 1e-6 for key in self.keys)


@dataclass(frozen=True, slots=True)
class Script:
    """What a clip is to show, and what not."""

    prompt: Track
    negative_prompt: Track

    def texts(self) -> tuple[str, ...]:
        """All texts of both, the prompt's first."""
        return (*self.prompt.texts(), *self.negative_prompt.texts())

    @property
    def differs_by_frame(self) -> bool:
        """Whether the frames of a clip may have texts of their own."""
        return len(self.prompt.keys) > 1 or len(self.negative_prompt.keys) > 1


def read_script(
    prompt: str, negative_prompt: str, timing: Timing, *, steps: int, second: SecondPass | None = None
) -> Script:
    """Read a clip's prompts; in a negative prompt AND is a word like others, as in the WebUI.

    Raises:
        RequestError: a key frame lies outside the clip, or a weight is too large.
    """
    return Script(
        _track(prompt, timing, field="prompt", steps=steps, second=second),
        _track(negative_prompt, timing, field="negative_prompt", steps=steps, second=second),
    )


def _track(prompt: str, timing: Timing, *, field: str, steps: int, second: SecondPass | None) -> Track:
    keys = []
    for key in key_frames(prompt, timing, field=field):
        texts = composed(key.text) if field == "prompt" else (Composed(key.text),)
        parts = tuple(Part(schedule(each.text, steps, second=second), each.weight) for each in texts)
        keys.append(Key(key.frame, parts))
    track = Track(tuple(_as_many(keys)), timing)
    _check_weights(track, field)
    return track


def _as_many(keys: list[Key]) -> Iterator[Key]:
    """The keys with equally many parts: what a key lacks it has without weight, so that it can grow towards others."""
    most = max(len(key.parts) for key in keys)
    for key in keys:
        missing = most - len(key.parts)
        yield Key(key.frame, key.parts + (Part(key.parts[0].stretches, 0.0),) * missing)


def _check_weights(track: Track, field: str) -> None:
    of_parts = (part.weight for key in track.keys for part in key.parts)
    of_phrases = (phrase.weight for text in track.texts() for phrase in phrases(text))
    for weights in (of_parts, of_phrases):
        if any(abs(weight) > LARGEST_WEIGHT for weight in weights):
            raise problem(field, f"A weight in the prompt is too large: at most {LARGEST_WEIGHT:g} means anything.")


def _texts(keys: Iterable[Key]) -> Iterator[str]:
    for key in keys:
        for part in key.parts:
            yield from (stretch.text for stretch in part.stretches)


def _share(key: int, other: int, done: int, length: int) -> Between:
    return Between(key, other if done else key, done / length)
