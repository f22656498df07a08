"""Classifier-free guidance (arXiv 2207.12598) around a network, with the rescaling of arXiv 2305.08891.

Several texts at once are combined as in arXiv 2206.01714, each with a weight.

Shapes: b batch, c channels, f frames, h w latent height and width, n tokens, d features.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import torch
from einops import repeat
from torch import Tensor

from t2v_core.sampling.denoiser import Denoise, Prediction
from t2v_core.sampling.schedule import Level

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A network: latents (1, c, f, h, w), a timestep (1,) and texts (b, n, d) or (b, f, n, d) to its raw output for each.

That is (b, c, f, h, w). It's given float32 and casts to what its weights want; the output may have any floating dtype.
"""

_NOTHING = 1e-6
"""What a text counts that counts nothing, for numbers that were added up."""

Weight = float | Tensor
"""How strongly a text counts, or (f, 1, 1), how strongly it counts for each frame."""


class Half(enum.Enum):
    """The two texts of guidance; of several that are followed the first is COND, the others are (COND, 1) and so on."""

    UNCOND = enum.auto()
    COND = enum.auto()


Announce = Callable[[Level, tuple[Hashable, ...]], None]
"""Hears before each call of the network at which level it is, and which texts its batch has, in their order."""


@dataclass(frozen=True, eq=False)
class Texts:
    """What a network is to follow and what not, each (1, n, d), or (1, f, n, d) where the frames' texts differ.

    Whoever asks for the same batch of one `Texts` twice gets the same tensor, so that what a network has made of it
    can be used again.
    """

    uncond: Tensor | None
    conds: tuple[tuple[Tensor, Weight], ...]
    _batches: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, cond: Tensor, uncond: Tensor | None = None) -> Texts:
        """One text to follow, and one to leave."""
        return cls(uncond, ((cond, 1.0),))

    @property
    def weight(self) -> Weight:
        """How strongly all that is followed counts together."""
        _, first = self.conds[0]
        return sum((weight for _, weight in self.conds[1:]), start=first)

    def check(self) -> None:
        """Raise `ValueError` where guidance has no unconditional text that goes with the others."""
        found = None if self.uncond is None else tuple(self.uncond.shape)
        if any(found is None or cond.shape[-2:] != found[-2:] for cond, _ in self.conds):
            raise ValueError(f"guidance needs two texts of one shape, not {tuple(self.conds[0][0].shape)} and {found}")

    def calls(self, *, with_uncond: bool, split: bool) -> list[tuple[tuple[Hashable, ...], Tensor]]:
        """The network's calls, each with what `Announce` calls its texts and these along the first axis.

        The unconditional text comes first, if it's wanted.
        """
        halves: list[Hashable] = [Half.COND, *((Half.COND, place) for place in range(1, len(self.conds)))]
        texts = [cond for cond, _ in self.conds]
        if with_uncond and self.uncond is not None:
            halves, texts = [Half.UNCOND, *halves], [self.uncond, *texts]
        if split or len(texts) == 1:
            return [((half,), text) for half, text in zip(halves, texts, strict=True)]
        if len(texts) not in self._batches:
            self._batches[len(texts)] = torch.cat(_as_frames(texts))
        return [(tuple(halves), self._batches[len(texts)])]


def guided(
    predict: Predict,
    prediction: Prediction,
    texts: Texts | Callable[[Level], Texts],
    *,
    scale: float,
    rescale: float = 0.0,
    split: bool | Callable[[], bool] = False,
    until: Level | None = None,
    announce: Announce | None = None,
) -> Denoise:
    """A denoiser that follows texts: uncond + scale * sum(weight_i * (cond_i - uncond)).

    Where the unconditional text counts nothing, as with one text at scale 1, it's neither run nor needed. Otherwise all
    run as one batch, unconditional first, or with `split` one after the other, which takes less memory and may change
    during a run. From the level `until` on, where there is little noise left, those to follow run without it (arXiv
    2404.07724: there guidance hardly does anything). `rescale` in 0..1 is the share of the output whose contrast is put
    back to the conditional's; it acts on the network's raw output, as in Diffusers. Timesteps are float32, as they may
    be fractional. The estimate has the latents' dtype and device.

    Raises:
        ValueError: at once, or for texts that change when they come, if guidance needs an unconditional text and there
            is none of the others' shape.
    """
    if isinstance(texts, Texts) and _needs_uncond(texts, scale):
        texts.check()

    def outputs(latents: Tensor, level: Level, found: Texts, *, with_uncond: bool) -> list[Tensor]:
        is_split = split() if callable(split) else split
        made: list[Tensor] = []
        for halves, text in found.calls(with_uncond=with_uncond, split=is_split):
            if announce is not None:
                announce(level, halves)
            made += predict(latents, _timesteps(latents, level), text).to(latents.dtype).chunk(len(halves))
        return made

    def output(latents: Tensor, level: Level) -> Tensor:
        found = texts if isinstance(texts, Texts) else texts(level)
        late = until is not None and level.sigma <= until.sigma
        strength = scale
        if late and not isinstance(found.weight, Tensor) and found.weight > 0:
            strength = 1 / found.weight
        if not _needs_uncond(found, strength):
            return _sum(outputs(latents, level, found, with_uncond=False), found, strength)
        found.check()
        uncond, *conds = outputs(latents, level, found, with_uncond=True)
        combined = _combined(uncond, conds, found, strength)
        followed = conds[0] if len(conds) == 1 else _combined(uncond, conds, found, 1.0)
        return _rescaled(combined, followed, rescale) if rescale else combined

    return lambda latents, level: prediction.to_clean(output(latents, level), latents, level)


def _needs_uncond(texts: Texts, scale: float) -> bool:
    counts = texts.weight * scale
    return bool((counts - 1).abs().max() > _NOTHING) if isinstance(counts, Tensor) else abs(counts - 1) > _NOTHING


def _sum(outputs: list[Tensor], texts: Texts, scale: float) -> Tensor:
    if len(outputs) == 1:
        return outputs[0]
    weighed = [(scale * weight) * output for output, (_, weight) in zip(outputs, texts.conds, strict=True)]
    return sum(weighed[1:], start=weighed[0])


def _combined(uncond: Tensor, conds: list[Tensor], texts: Texts, scale: float) -> Tensor:
    combined = uncond
    for cond, (_, weight) in zip(conds, texts.conds, strict=True):
        combined = combined + (scale * weight) * (cond - uncond)
    return combined


def _as_frames(texts: list[Tensor]) -> list[Tensor]:
    """All as (1, f, n, d) if one of them is."""
    frames = next((text.shape[1] for text in texts if text.ndim == 4), None)
    if frames is None:
        return texts
    return [text if text.ndim == 4 else repeat(text, "b n d -> b f n d", f=frames) for text in texts]


def _timesteps(latents: Tensor, level: Level) -> Tensor:
    return torch.full((latents.shape[0],), level.timestep, dtype=torch.float32, device=latents.device)


def _rescaled(combined: Tensor, cond: Tensor, share: float) -> Tensor:
    """arXiv 2305.08891, eq. 15 and 16; the deviation is over everything but the batch."""
    dims = list(range(1, cond.ndim))
    # A constant output has no contrast to put back; the floor keeps it from becoming NaN.
    deviation = combined.std(dim=dims, keepdim=True).clamp_min(torch.finfo(combined.dtype).tiny)
    factor = cond.std(dim=dims, keepdim=True) / deviation
    return combined * (share * factor + (1.0 - share))
