"""A video, told in four sentences: encode the prompt, draw noise, sample, decode.

Legend: b batch, c latent channels, f frames, h w latent height and width, n text tokens, d text features.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from einops import rearrange
from torch import Tensor

from t2v_core.errors import NonFiniteError
from t2v_core.media.stored_frames import StoredFrames
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.shortcuts import NO_SHORTCUTS, Shortcuts
from t2v_core.prompts.editing import SecondPass
from t2v_core.rendering.conditioning import Conditioning, conditioning_of, script_of
from t2v_core.rendering.distilled import Distillation
from t2v_core.rendering.given import NOTHING, Given
from t2v_core.rendering.interruptible import Stopped
from t2v_core.rendering.known_latents import known_of
from t2v_core.rendering.masking import putting_back
from t2v_core.rendering.passes import sample
from t2v_core.request import GenerationRequest, decided
from t2v_core.run import Run, Stage
from t2v_core.sampling.denoiser import Prediction
from t2v_core.sampling.known import Known
from t2v_core.sampling.schedule import NoiseSchedule
from t2v_core.video import Frames, ModelIdentity, Video

Value = TypeVar("Value")


class VideoModel(Protocol):
    """What the story needs of a model; each family has one."""

    identity: ModelIdentity
    prediction: Prediction
    noise_schedule: NoiseSchedule
    distillation: Distillation | None

    def used(self, request: GenerationRequest) -> GenerationRequest:
        """The request with the number formats that its clip is made in."""
        ...

    def widen(self, part: Part, error: NonFiniteError, run: Run) -> None:
        """Let a part that gave NaN compute in a wider number format; raises `NonFiniteError` if there is none."""
        ...

    def latent_shape(self, request: GenerationRequest) -> tuple[int, int, int, int]:
        """(c, f, h, w) of the request's clip."""
        ...

    @property
    def splits_guidance(self) -> bool:
        """Whether guidance's halves have to run one after the other, for want of memory; may change during a run."""
        ...

    def within_memory(self, work: Callable[[], Value], run: Run) -> Value:
        """What the work gives; where memory runs out, it's done once more with less."""
        ...

    def decode_chunk(self, request: GenerationRequest) -> int:
        """How many frames to decode at once."""
        ...

    def encode(self, prompts: tuple[str, ...], run: Run) -> Tensor:
        """The prompts' features (b, n, d), padded to a common n."""
        ...

    def predictor(
        self, run: Run, *, stopped: Callable[[], bool], shortcuts: Shortcuts = NO_SHORTCUTS
    ) -> contextlib.AbstractContextManager[Callable[[Tensor, Tensor, Tensor], Tensor]]:
        """The network: latents (b, c, f, h, w), timesteps (b,) and text (b, n, d) to its prediction, float32.

        It may raise `Stopped` once `stopped` is true.
        """
        ...

    def encoder(self, run: Run) -> contextlib.AbstractContextManager[Callable[[Tensor], Tensor]]:
        """Pictures (f, 3, H, W) in 0..1 to their latents (f, c, h, w), both float32; the mean of what they may be."""
        ...

    def decoder(
        self, run: Run, *, stopped: Callable[[], bool]
    ) -> contextlib.AbstractContextManager[Callable[[Tensor], Tensor]]:
        """Latents of some frames (f, c, h, w) to pictures (f, 3, H, W) in 0..1, float32.

        It may raise `Stopped` once `stopped` is true.
        """
        ...

    def preview(self, latents: Tensor) -> Frames:
        """Latents (c, f, h, w) to what they look like, (f, h, w, 3), at next to no cost; in any thread."""
        ...


@torch.no_grad()
def tell(
    request: GenerationRequest,
    model: VideoModel,
    run: Run,
    *,
    given: Given = NOTHING,
    folder: Path | None = None,
    second: SecondPass | None = None,
) -> Video:
    """Make the clip of a resolved request, from what is given; many frames lie in a nameless file in `folder`.

    A `second` pass reads its prompts' edits as going on after the first one's steps.

    What isn't finite is done once more in a wider number format: text and sampling as a whole, so that the video's
    recipe is true of every step, and of the other parts only what failed.
    """
    known: Known | None = None
    while True:
        text = encode(request, model, run, second=second)
        if known is None:
            known = known_of(given, request, model, run, device=str(text.device))
        try:
            sampled = sample(request, model, run, text=text, known=known)
            break
        except NonFiniteError as error:
            model.widen(Part.UNET, error, run)
    frames = decode(sampled.latents, request, model, run, given=given, folder=folder)
    request = model.used(request)
    unfinished = not sampled.whole or len(frames) < decided(request.frames)
    return Video(
        frames, request, model.identity, steps_done=sampled.steps_done, partial=unfinished, versions=_versions()
    )


def encode(
    request: GenerationRequest, model: VideoModel, run: Run, *, second: SecondPass | None = None
) -> Conditioning:
    """What the request's prompts say, as features."""
    conditioning = conditioning_of(
        script_of(request, second=second), blend=request.prompt_blend, encode=lambda texts: model.encode(texts, run)
    )
    run.raise_if_stopped()
    return conditioning


def decode(
    latents: Tensor,
    request: GenerationRequest,
    model: VideoModel,
    run: Run,
    *,
    given: Given = NOTHING,
    folder: Path | None = None,
) -> StoredFrames:
    """Latents (1, c, f, h, w) to frames; a stop that comes now keeps the frames that are whole, at least one."""
    stops = run.stops
    put_back = putting_back(given)
    stored = StoredFrames(folder, height=decided(request.height), width=decided(request.width))

    def stopped() -> bool:
        return run.stops > stops and bool(stored)

    frames = rearrange(latents, "1 c f h w -> f c h w")
    # The first frame comes alone: nobody has to wait for more of them before something is kept.
    chunks = [frames[:1], *(frames[1:].split(model.decode_chunk(request)) if len(frames) > 1 else ())]
    with model.decoder(run, stopped=stopped) as to_pictures, contextlib.suppress(Stopped):
        for chunk in run.track(chunks, stage=Stage.DECODING, total=len(frames), unit="frame", units=len):
            stored.append(put_back(to_bytes(to_pictures(chunk)), len(stored)))
            if stopped():
                break
    return stored


def to_bytes(pictures: Tensor) -> Frames:
    """Pictures (f, 3, H, W) in 0..1 to (f, H, W, 3) uint8.

    Raises:
        NonFiniteError: for NaN, which would otherwise become black without a word.
    """
    if not torch.isfinite(pictures).all():
        raise NonFiniteError("The autoencoder gave values that are no picture (NaN).")
    return rearrange(pictures.mul(255.0).round().clamp(0, 255).to(torch.uint8), "f c h w -> f h w c").cpu().numpy()


def _versions() -> dict[str, str]:
    return {"torch": str(torch.__version__)}
