"""The second pass: a clip made larger, and then drawn again a little, so that the new pixels get something to show.

It is the way that the model's own family is used: a small picture that moves well, then a larger one at low strength
(zeroscope 576w and XL, for instance).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from t2v_core.host import Upscaler
from t2v_core.media.stored_frames import StoredFrames
from t2v_core.postprocess.upscale import careful, find_upscaler, notes_of, upscale
from t2v_core.rendering.given import Given
from t2v_core.request import GenerationRequest, decided
from t2v_core.run import Run, Stage
from t2v_core.video import FrameSource, Video

TILE = 512
"""Pixels of a tile's side in the second pass, where the request leaves it open."""


def second_request(request: GenerationRequest, *, multiple: int) -> GenerationRequest:
    """What the second pass of a resolved request does, its sides multiples of so many pixels.

    What the request leaves open for this pass is the first one's; frames, window, prompts and seed are always.
    """
    width, height = (
        max(multiple, round(decided(side) * request.refine / multiple) * multiple)
        for side in (request.width, request.height)
    )
    second = dataclasses.replace(
        request,
        model=request.refine_model or request.model,
        width=width,
        height=height,
        steps=request.refine_steps or request.steps,
        strength=request.refine_strength,
        tile=TILE if request.tile is None else request.tile,
        fill_in=0,
        refine=0.0,
        join=False,
    )
    return second.with_what_pieces_allow()


def enlarged(
    video: Video, request: GenerationRequest, run: Run, *, upscalers: Mapping[str, Upscaler], folder: Path
) -> Video:
    """The first pass' video at the size of the second one's request, by the host's upscaler or Lanczos.

    Raises:
        OutputError: the disk is full.
        Cancelled: the user stopped it.
    """
    ours = careful(upscalers, run, outlasts_stop=False)
    width, height = decided(request.width), decided(request.height)
    stored = StoredFrames(folder, height=height, width=width)
    chunks = upscale(video.frames, width=width, height=height, upscaler=find_upscaler(request.upscaler, ours))
    for chunk in run.track(chunks, stage=Stage.UPSCALING, total=len(video.frames), unit="frame", units=len):
        run.raise_if_stopped()
        stored.append(chunk)
    return dataclasses.replace(video, frames=stored, notes={**video.notes, **notes_of(ours, "Refine upscaled by")})


def given_again(given: Given, frames: FrameSource) -> Given:
    """What the second pass starts from: the first one's frames, and pictures and mask at its size."""
    return dataclasses.replace(given, clip=frames, before=None)


def joined(first: Video, second: Video) -> Video:
    """The second pass' video under the whole request, with the first one's model and both passes' notes."""
    again = {} if second.model == first.model else {"Refined by": f"{second.model.name} {second.model.hash}".strip()}
    return dataclasses.replace(
        second,
        request=dataclasses.replace(
            first.request, precision=second.request.precision, vae_precision=second.request.vae_precision
        ),
        model=first.model,
        steps_done=first.steps_done if not second.partial else second.steps_done,
        notes={**first.notes, **second.notes, **again},
    )
