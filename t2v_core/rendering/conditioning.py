"""A clip's prompts as features: what the network is to follow in each step, for each of its frames.

Legend: b batch, f frames, n text tokens, d text features.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence

import torch
from torch import Tensor

from t2v_core.models.modelscope.tokenizer import Chunk, chunks_of
from t2v_core.prompts.editing import SecondPass
from t2v_core.prompts.emphasis import phrases
from t2v_core.prompts.key_frames import Timing
from t2v_core.prompts.script import CUT, LINEAR, SPHERICAL, Between, Script, Track, read_script
from t2v_core.request import GenerationRequest, decided
from t2v_core.sampling.guidance import Texts, Weight

Blend = Callable[[Tensor, Tensor, float], Tensor]

KEPT = 4
"""How many frame by frame texts are kept, those that were used last; one takes 0.3 MB for each frame and 77 tokens."""

_NEARLY_PARALLEL = 0.9995


class Conditioning:
    """What is followed and what not, by step and frame; the same answer is the same object as long as it is kept.

    That of a clip without key frames always is.
    """

    def __init__(self, script: Script, features: Mapping[str, Tensor], *, blend: str = LINEAR) -> None:
        """`features` has (1, n, d) of each of the script's texts, all of one n, on the device that computes."""
        self._script = script
        self._features = features
        self._blend = BLENDS[blend]
        self._is_cut = blend == CUT
        self._whole: OrderedDict[Hashable, Texts] = OrderedDict()
        self._by_frame: OrderedDict[Hashable, Texts] = OrderedDict()

    @property
    def device(self) -> str:
        """Where the features are."""
        return str(next(iter(self._features.values())).device)

    def at(self, step: int, frames: Sequence[int]) -> Texts:
        """The texts of these frames of the clip in a sampling step of the script's, counted from 0."""
        tracks = self._script.negative_prompt, self._script.prompt
        places = tuple(self._places(track, frames) for track in tracks)
        said = tuple(
            tuple(key.parts[part].text(step) for key in track.keys for part in range(track.parts)) for track in tracks
        )
        is_whole = all(len(set(each)) == 1 and each[0].share == 0 for each in places)
        known = self._whole if is_whole else self._by_frame
        key = (tuple(each[:1] for each in places) if is_whole else places, said)
        if key not in known:
            known[key] = self._made(step, places)
        if not is_whole:
            self._by_frame.move_to_end(key)
            while len(self._by_frame) > KEPT:
                self._by_frame.popitem(last=False)
        return known[key]

    def _places(self, track: Track, frames: Sequence[int]) -> tuple[Between, ...]:
        places = [track.between(frame) for frame in frames]
        return tuple(Between(place.key, place.key, 0.0) if self._is_cut else place for place in places)

    def _made(self, step: int, places: tuple[tuple[Between, ...], ...]) -> Texts:
        (uncond, _), *_ = self._parts(self._script.negative_prompt, step, places[0])
        return Texts(uncond, tuple(self._parts(self._script.prompt, step, places[1])))

    def _parts(self, track: Track, step: int, places: Sequence[Between]) -> list[tuple[Tensor, Weight]]:
        """Each of a track's texts at these places with its weight."""
        return [
            (self._text(track, part, step, places), _weight(track, part, places, like=self.device))
            for part in range(track.parts)
        ]

    def _text(self, track: Track, part: int, step: int, places: Sequence[Between]) -> Tensor:
        """(1, n, d) where all places say the same, else (1, f, n, d)."""
        said = [self._said(track, part, step, place) for place in places]
        if set(said) == {(said[0][0], said[0][0], 0.0)}:
            return self._features[said[0][0]]
        made = {each: self._blended(*each) for each in set(said)}
        return torch.stack([made[each] for each in said], dim=1)

    def _said(self, track: Track, part: int, step: int, place: Between) -> tuple[str, str, float]:
        here, there = (track.keys[key].parts[part].text(step) for key in (place.key, place.other))
        return (here, there, place.share) if here != there and place.share else (here, here, 0.0)

    def _blended(self, text: str, other: str, share: float) -> Tensor:
        here = self._features[text]
        return self._blend(here, self._features[other], share) if share else here


def script_of(request: GenerationRequest, *, steps: int | None = None, second: SecondPass | None = None) -> Script:
    """What a resolved request's prompts say, in its own steps or in those of a second pass.

    Raises:
        RequestError: as `read_script`.
    """
    timing = Timing(decided(request.frames), decided(request.fps), request.loop)
    steps = decided(request.steps) if steps is None else steps
    return read_script(request.prompt, request.negative_prompt, timing, steps=steps, second=second)


def conditioning_of(script: Script, *, blend: str, encode: Callable[[tuple[str, ...]], Tensor]) -> Conditioning:
    """The features of all that a script says; `encode` gives (b, n, d) of so many texts."""
    texts = script.texts()
    return Conditioning(script, dict(zip(texts, encode(texts).split(1), strict=True)), blend=blend)


def _weight(track: Track, part: int, places: Sequence[Between], *, like: str) -> Weight:
    """A number where all places have the same, else (f, 1, 1)."""
    ends = [(track.keys[each.key].parts[part], track.keys[each.other].parts[part], each.share) for each in places]
    weights = [here.weight + (there.weight - here.weight) * share for here, there, share in ends]
    if len(set(weights)) == 1:
        return weights[0]
    return torch.tensor(weights, dtype=torch.float32, device=like)[:, None, None]


def chunks_said(text: str) -> list[Chunk]:
    """The chunks of one of a script's texts, with the weights of its words."""
    return chunks_of(None if phrase.is_break else (phrase.text, phrase.weight) for phrase in phrases(text))


def weighed(features: Tensor, chunks: Sequence[Chunk]) -> Tensor:
    """The features (n, d) of a text's chunks, each with its tokens' weights."""
    parts = features.split(len(chunks[0].tokens))
    return torch.cat([emphasized(part, chunk.weights) for part, chunk in zip(parts, chunks, strict=True)])


def emphasized(features: Tensor, weights: Sequence[float]) -> Tensor:
    """A chunk's features (n, d) with each token multiplied by its weight (n), and their mean put back.

    That is the WebUI's own way; a chunk whose weights are all 1 stays what it is to the bit.
    """
    if all(weight == 1 for weight in weights):
        return features
    weighed = features * torch.tensor(weights, dtype=features.dtype, device=features.device)[:, None]
    restored = weighed * (features.mean() / weighed.mean())
    return restored if torch.isfinite(restored).all() else weighed


def spherical(here: Tensor, there: Tensor, share: float) -> Tensor:
    """Each token (..., d) on the arc from here to there: half-way it is as long as the two, not shorter."""
    cosine = torch.nn.functional.cosine_similarity(here, there, dim=-1).unsqueeze(-1)
    angle = cosine.clamp(-1, 1).acos()
    sine = angle.sin().clamp_min(torch.finfo(angle.dtype).tiny)
    arc = ((1 - share) * angle).sin() / sine * here + (share * angle).sin() / sine * there
    # Hardly an angle, or half a turn, which leaves no arc between the two.
    return torch.where(cosine.abs() > _NEARLY_PARALLEL, torch.lerp(here, there, share), arc)


BLENDS: Mapping[str, Blend] = {
    LINEAR: torch.lerp,
    SPHERICAL: spherical,
    CUT: lambda here, there, share: here,
}
