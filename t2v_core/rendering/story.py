"""A video, told in four sentences: encode the prompt, draw noise, sample, decode.

Legend: b batch, c latent channels, f frames, h w latent height and width, n text tokens, d text features.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from t2v_core.errors import Cancelled, NonFiniteError
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.shortcuts import NO_SHORTCUTS, Shortcuts
from t2v_core.rendering.devices import fetch, to_device, traits_of
from t2v_core.rendering.distilled import Distillation, guidance_of, sampler_of
from t2v_core.rendering.interruptible import Stopped
from t2v_core.request import GenerationRequest
from t2v_core.run import Preview, Run, Stage
from t2v_core.sampling import load, schedule
from t2v_core.sampling.algorithm import Noise, Step
from t2v_core.sampling.denoiser import Prediction
from t2v_core.sampling.guidance import guided
from t2v_core.sampling.noise import FrameNoise
from t2v_core.sampling.reuse import DeepFeatures
from t2v_core.sampling.schedule import Level, NoiseSchedule
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


@dataclass(frozen=True, slots=True)
class Sampled:
    """Clean latents (1, c, f, h, w) after `steps_done` steps."""

    latents: Tensor
    steps_done: int


@torch.no_grad()
def tell(request: GenerationRequest, model: VideoModel, run: Run) -> Video:
    """Make the clip of a resolved request.

    What isn't finite is done once more in a wider number format: text and sampling as a whole, so that the video's
    recipe is true of every step, and of the other parts only what failed.
    """
    while True:
        text = encode(request, model, run)
        noise = draw(request, model, device=str(text.device))
        try:
            sampled = sample(request, model, run, text=text, noise=noise)
            break
        except NonFiniteError as error:
            model.widen(Part.UNET, error, run)
    frames = decode(sampled.latents, request, model, run)
    request = model.used(request)
    unfinished = sampled.steps_done < _given(request.steps) or len(frames) < _given(request.frames)
    return Video(
        frames, request, model.identity, steps_done=sampled.steps_done, partial=unfinished, versions=_versions()
    )


def encode(request: GenerationRequest, model: VideoModel, run: Run) -> Tensor:
    """The prompt's and the negative prompt's features, (2, n, d), in this order."""
    features = model.encode((request.prompt, request.negative_prompt), run)
    run.raise_if_stopped()
    return features


@dataclass(frozen=True, slots=True)
class DeviceNoise:
    """Noise that is drawn in main memory, and brought to where the latents are without waiting for it."""

    drawn: FrameNoise
    device: str

    def draw(self, index: int) -> Tensor:
        """Unit normal noise (1, c, f, h, w), as `algorithm.Noise`."""
        return to_device(self.drawn.draw(index), self.device)


def draw(request: GenerationRequest, model: VideoModel, *, device: str) -> DeviceNoise:
    """The noise of this seed: what frame i gets depends on the seed and i alone."""
    channels, frames, height, width = model.latent_shape(request)
    drawn = FrameNoise(request.seed, channels=channels, frames=frames, height=height, width=width)
    return DeviceNoise(drawn, device)


def sample(request: GenerationRequest, model: VideoModel, run: Run, *, text: Tensor, noise: Noise) -> Sampled:
    """Turn noise into clean latents; a stop keeps the estimate of the last whole step, if there is one."""
    sampler, count = sampler_of(request, model.distillation), _given(request.steps)
    start = noise.draw(0)
    levels = levels_of(request, model.noise_schedule, model.distillation)
    every, until = _given(request.reuse_features), _given(request.guidance_until)
    deep = DeepFeatures(levels, every=every) if every > 1 else None
    shortcuts = Shortcuts(deep, _given(request.merge_tokens), _given(request.attention_window))
    with model.predictor(run, stopped=lambda: run.stop is not None, shortcuts=shortcuts) as predict:
        denoise = guided(
            predict,
            model.prediction,
            text[:1],
            text[1:],
            scale=guidance_of(request, model.distillation),
            rescale=request.guidance_rescale,
            split=lambda: request.split_guidance or model.splits_guidance,
            until=levels[round(until * count)] if until < 1 else None,
            announce=deep.announce if deep else None,
        )

        def within_memory(latents: Tensor, level: Level) -> Tensor:
            return model.within_memory(lambda: denoise(latents, level), run)

        trajectory = load(sampler)(within_memory, start, levels, noise=noise, eta=sampler.resolve_eta(request.eta))
        return _follow(trajectory, model, run, count=count)


def _follow(trajectory: Iterator[Step], model: VideoModel, run: Run, *, count: int) -> Sampled:
    """Take `count` steps, or as many as are whole when a stop comes.

    A device that computes beside us has the next step's work before it is asked about the last one: it never waits for
    us, and we are never more than a step ahead of it. A CPU is asked at once, for a step of its may take a minute.
    """
    last: Step | None = None
    unchecked: Callable[[], None] | None = None
    with contextlib.suppress(Stopped):
        for step in run.track(trajectory, stage=Stage.SAMPLING, total=count, unit="step"):
            check, unchecked = unchecked, picture_check(step.denoised)
            if not traits_of(str(step.denoised.device)).works_beside:
                check, unchecked = unchecked, None
            if check is not None:
                check()
            last = step
            run.report(Preview(step.index + 1, functools.partial(model.preview, step.denoised[0])))
            if run.stop:
                break
    if last is None:
        raise Cancelled
    if unchecked is not None:
        unchecked()
    done = last.index + 1
    return Sampled(last.latents if done == count else last.denoised, done)


def levels_of(
    request: GenerationRequest, noise_schedule: NoiseSchedule, distillation: Distillation | None = None
) -> tuple[Level, ...]:
    """The noise levels of a resolved request's steps; raises `RequestError` for a count that the sampler can't take."""
    sampler = sampler_of(request, distillation)
    return schedule.levels(_given(request.schedule), _given(request.steps), noise_schedule, sampler=sampler)


def decode(latents: Tensor, request: GenerationRequest, model: VideoModel, run: Run) -> Frames:
    """Latents (1, c, f, h, w) to frames; a stop that comes now keeps the frames that are whole, at least one."""
    stops = run.stops
    pictures: list[Frames] = []

    def stopped() -> bool:
        return run.stops > stops and bool(pictures)

    frames = rearrange(latents, "1 c f h w -> f c h w")
    # The first frame comes alone: nobody has to wait for more of them before something is kept.
    chunks = [frames[:1], *(frames[1:].split(model.decode_chunk(request)) if len(frames) > 1 else ())]
    with model.decoder(run, stopped=stopped) as to_pictures, contextlib.suppress(Stopped):
        for chunk in run.track(chunks, stage=Stage.DECODING, total=len(frames), unit="frame", units=len):
            pictures.append(to_bytes(to_pictures(chunk)))
            if stopped():
                break
    return np.concatenate(pictures)


def to_bytes(pictures: Tensor) -> Frames:
    """Pictures (f, 3, H, W) in 0..1 to (f, H, W, 3) uint8.

    Raises:
        NonFiniteError: for NaN, which would otherwise become black without a word.
    """
    if not torch.isfinite(pictures).all():
        raise NonFiniteError("The autoencoder gave values that are no picture (NaN).")
    return rearrange(pictures.mul(255.0).round().clamp(0, 255).to(torch.uint8), "f c h w -> f h w c").cpu().numpy()


def picture_check(latents: Tensor) -> Callable[[], None]:
    """What raises `NonFiniteError`, when it is called, for latents that can only become a black or empty video."""
    fetched = fetch(latents.std())

    def check() -> None:
        spread = fetched().item()
        if not math.isfinite(spread):
            raise NonFiniteError("The network gave values that are no picture (NaN or infinite).")
        if spread == 0:
            raise NonFiniteError("The network gave latents that are all the same: an empty picture.")

    return check


def _versions() -> dict[str, str]:
    return {"torch": str(torch.__version__)}


def _given(value: Value | None) -> Value:
    """A field of a resolved request, which is never open."""
    assert value is not None
    return value
