"""What is given of a clip, as latents that sampling holds for a while.

Legend: c latent channels, f frames, h w latent height and width, H W picture height and width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from einops import rearrange, reduce
from torch import Tensor

from t2v_core.rendering.devices import to_device
from t2v_core.rendering.given import Anchor, Given, Mask, StillFrames
from t2v_core.request import GenerationRequest
from t2v_core.run import Run, Stage
from t2v_core.sampling.known import Known
from t2v_core.video import Frames, FrameSource

if TYPE_CHECKING:
    from t2v_core.rendering.story import VideoModel

_MASKS_AT_ONCE = 16
"""Frames of a mask that are in memory at a time."""


def known_of(given: Given, request: GenerationRequest, model: VideoModel, run: Run, *, device: str) -> Known | None:
    """The latents of everything that is given, on a device; None where the clip depends on none of it.

    Raises:
        Cancelled: the user stopped it.
    """
    clip_counts = given.clip is not None and (request.strength < 1 or given.mask is not None)
    if not clip_counts and not given.anchors:
        return None
    channels, frames, height, width = model.latent_shape(request)
    latents = torch.zeros(1, channels, frames, height, width)
    hold = torch.zeros(1, 1, frames, height, width)
    if given.clip is not None:
        hold += 1 - request.strength * _may_change(given.mask, height=height, width=width)
    clip = given.clip if clip_counts else None
    pieces = _pieces(clip, given.anchors, chunk=model.decode_chunk(request))
    total = len(given.anchors) + _different(clip)
    with model.encoder(run) as to_latents:
        for places, pictures in run.track(
            pieces, stage=Stage.SOURCE, total=total, unit="frame", units=lambda piece: len(piece[1])
        ):
            run.raise_if_stopped()
            found = to_latents(to_device(_as_pictures(pictures), device))
            latents[0, :, places] = rearrange(found.cpu(), "f c h w -> c f h w")
    for anchor in given.anchors:
        hold[:, :, anchor.frame] = anchor.strength
    if given.clip is None and request.anchor_fade:
        _fade(latents, hold, given.anchors, over=request.anchor_fade)
    return Known(to_device(latents, device), to_device(hold, device))


def _pieces(clip: FrameSource | None, anchors: Sequence[Anchor], *, chunk: int) -> Iterator[tuple[slice, Frames]]:
    """What is to be encoded, as places and the pictures there (or one for all); later ones replace earlier ones."""
    if isinstance(clip, StillFrames):
        yield slice(None), clip[:1]
    elif clip is not None:
        for start in range(0, len(clip), chunk):
            yield slice(start, start + chunk), clip[start : start + chunk]
    for anchor in anchors:
        yield slice(anchor.frame, anchor.frame + 1), anchor.picture[None]


def _different(clip: FrameSource | None) -> int:
    """How many frames of a clip have to be looked at."""
    return 0 if clip is None else 1 if isinstance(clip, StillFrames) else len(clip)


def _as_pictures(frames: Frames) -> Tensor:
    """Frames (f, H, W, 3) uint8 as pictures (f, 3, H, W) in 0..1."""
    return rearrange(torch.tensor(frames), "f h w c -> f c h w").float().div_(255.0)


def _may_change(mask: Mask | None, *, height: int, width: int) -> Tensor:
    """How far each latent place may change, (1, 1, f or 1, h, w): as far as the freest of its pixels."""
    if mask is None:
        return torch.ones(1, 1, 1, 1, 1)
    parts = [torch.tensor(mask[start : start + _MASKS_AT_ONCE]) for start in range(0, len(mask), _MASKS_AT_ONCE)]
    cells = [reduce(part, "f (h a) (w b) -> f h w", "max", h=height, w=width) for part in parts]
    return rearrange(torch.cat(cells), "f h w -> 1 1 f h w")


def _fade(latents: Tensor, hold: Tensor, anchors: tuple[Anchor, ...], *, over: int) -> None:
    """Let each anchor go over so many frames beside it; a frame between two follows the nearer one."""
    places = {anchor.frame for anchor in anchors}
    for frame in range(latents.shape[2]):
        near = min(anchors, key=lambda anchor: abs(anchor.frame - frame))
        distance = abs(near.frame - frame)
        if frame not in places and distance <= over:
            latents[:, :, frame] = latents[:, :, near.frame]
            hold[:, :, frame] = near.strength * (1 - distance / (over + 1))
