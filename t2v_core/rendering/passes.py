"""From noise to clean latents: one pass of a sampler over a clip, or key frames first and then what lies between them.

Legend: c latent channels, f frames, h w latent height and width.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from t2v_core.errors import Cancelled, NonFiniteError
from t2v_core.models.modelscope.shortcuts import Shortcuts
from t2v_core.rendering.conditioning import Conditioning
from t2v_core.rendering.devices import fetch, to_device, traits_of
from t2v_core.rendering.distilled import Distillation, guidance_of, sampler_of
from t2v_core.rendering.interruptible import Stopped
from t2v_core.request import GenerationRequest, decided
from t2v_core.run import Preview, Run, Stage
from t2v_core.sampling import load, schedule
from t2v_core.sampling.algorithm import Step
from t2v_core.sampling.denoiser import Denoise
from t2v_core.sampling.guidance import Texts, guided
from t2v_core.sampling.known import Known
from t2v_core.sampling.noise import FrameNoise
from t2v_core.sampling.reuse import DeepFeatures
from t2v_core.sampling.schedule import Level, NoiseSchedule, step_of
from t2v_core.sampling.windows import Axis, Cut, Tile, in_tiles

if TYPE_CHECKING:
    from t2v_core.rendering.story import VideoModel

FILL_STRENGTH = 0.8
"""How much of a frame between two key frames is made anew; the rest is the mean of the two."""

FEWEST_KEYS = 4
"""Of the demo model's clips of 8 frames, a twentieth went another way with 3 key frames, and none with 5."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """Clean latents (1, c, f, h, w) after `steps_done` steps; `whole` unless a stop came before the last one."""

    latents: Tensor
    steps_done: int
    whole: bool = True


@dataclass(frozen=True, slots=True)
class DeviceNoise:
    """Noise that is drawn in main memory, and brought to where the latents are without waiting for it."""

    drawn: FrameNoise
    device: str

    def draw(self, index: int) -> Tensor:
        """Unit normal noise (1, c, f, h, w), as `algorithm.Noise`."""
        return to_device(self.drawn.draw(index), self.device)


@dataclass(frozen=True, slots=True)
class Strided:
    """Frames that stand for a clip: so many, each `stride` of the clip's after the one before."""

    count: int
    stride: int = 1

    def numbers(self, places: tuple[int, ...]) -> tuple[int, ...]:
        """Which frames of the clip these are."""
        return tuple(place * self.stride for place in places)


def sample(
    request: GenerationRequest, model: VideoModel, run: Run, *, text: Conditioning, known: Known | None = None
) -> Sampled:
    """Turn noise into the clean latents of a resolved request's clip.

    A stop keeps the estimate of the last whole step; where only key frames are there by then, each stands for its
    neighbours.

    Raises:
        Cancelled: the user stopped before there was one.
        NonFiniteError: the network gave what is no picture.
    """
    frames = decided(request.frames)
    levels = levels_of(request, model.noise_schedule, model.distillation)
    passes = _passes(frames, request.fill_in, closed=request.loop)
    steps = len(levels) - 1
    total = _steps_of(known, steps) + (steps - math.ceil((1 - FILL_STRENGTH) * steps)) * (len(passes) - 1)
    sampled: Sampled | None = None
    before = 0
    for part in passes:
        held = None if known is None else _at(known, part)
        if sampled is not None:
            held = _with_key_frames(sampled.latents, part, held, closed=request.loop)
        done = before
        before += _steps_of(held, steps)
        one = _Pass(request, model, run, text=text, levels=levels, frames=part, known=held)
        sampled = one.sample(done_before=done, total=max(total, before))
        if not sampled.whole or (run.stop and part is not passes[-1]):
            latents = sampled.latents.repeat_interleave(part.stride, dim=2)[:, :, :frames]
            return Sampled(latents, sampled.steps_done, whole=False)
    assert sampled is not None
    return dataclasses.replace(sampled, latents=sampled.latents[:, :, :frames])


def levels_of(
    request: GenerationRequest, noise_schedule: NoiseSchedule, distillation: Distillation | None = None
) -> tuple[Level, ...]:
    """The noise levels of a resolved request's steps; raises `RequestError` for a count that the sampler can't take."""
    sampler = sampler_of(request, distillation)
    return schedule.levels(decided(request.schedule), decided(request.steps), noise_schedule, sampler=sampler)


def cut_of(request: GenerationRequest, shape: tuple[int, int, int, int], *, cell: int) -> Cut:
    """How latents (c, f, h, w) of a resolved request are cut, each cell of them being so many pixels wide."""
    _, frames, height, width = shape
    window, tile = request.window or 0, (request.tile or 0) // cell
    axis = Axis(window, decided(request.window_overlap)) if 0 < window < frames else Axis()
    rows, columns = (Axis(tile, tile // 4) if 0 < tile < length else Axis() for length in (height, width))
    return Cut(dataclasses.replace(axis, closed=request.loop), rows, columns)


def share_of_work(request: GenerationRequest, shape: tuple[int, int, int], *, cell: int, has_source: bool) -> float:
    """How many times the network goes over all of a clip (f, h, w) in a step, on the average of the run's steps."""
    frames, height, width = shape
    share = 0.0
    for number, part in enumerate(_passes(frames, request.fill_in, closed=request.loop)):
        here = (part.count, height, width)
        work = cut_of(request, (0, *here), cell=cell).passes(here) * part.count / frames
        share += work * FILL_STRENGTH if number else work
    return share * (request.strength if has_source else 1.0)


@dataclass(frozen=True, slots=True)
class _Pass:
    """One run of the sampler."""

    request: GenerationRequest
    model: VideoModel
    run: Run
    text: Conditioning
    levels: tuple[Level, ...]
    frames: Strided
    known: Known | None

    def sample(self, *, done_before: int, total: int) -> Sampled:
        """Take the steps in which something is free."""
        steps = len(self.levels) - 1
        first = 0 if self.known is None else self.known.first_step(steps)
        if self.known is not None and first == steps:
            return Sampled(self.known.latents, steps)
        channels, _, height, width = self.model.latent_shape(self.request)
        shape = (channels, self.frames.count, height, width)
        cut = cut_of(self.request, shape, cell=decided(self.request.width) // width)
        noise = self._noise(shape, cut)
        latents = noise.draw(0)
        if self.known is not None:
            latents = self.known.start(latents, self.levels[first])
        sampler = sampler_of(self.request, self.model.distillation)
        with self._denoiser(cut) as denoise:
            trajectory = load(sampler)(
                denoise, latents, self.levels[first:], noise=noise, eta=sampler.resolve_eta(self.request.eta)
            )
            sampled = _follow(trajectory, self.model, self.run, _Progress(first, steps, done_before, total))
        if self.known is None:
            return sampled
        return dataclasses.replace(sampled, latents=self.known.keep(sampled.latents))

    def _noise(self, shape: tuple[int, int, int, int], cut: Cut) -> DeviceNoise:
        channels, frames, height, width = shape
        stride = self.frames.stride
        drawn = FrameNoise(
            self.request.seed, channels, frames, height, width, stride=stride, window=cut.frames.size * stride
        )
        return DeviceNoise(drawn, str(self.text.device))

    def _texts(self, tile: Tile, level: Level) -> Texts:
        """What a tile's frames are to follow at a level."""
        return self.text.at(step_of(level, self.levels), self.frames.numbers(tile.frames.indices))

    @contextlib.contextmanager
    def _denoiser(self, cut: Cut) -> Iterator[Denoise]:
        """The network with guidance, shortcuts, tiles and what is known."""
        request, model, run = self.request, self.model, self.run
        in_pieces = cut != Cut()
        every, until = decided(request.reuse_features), decided(request.guidance_until)
        # What is kept of one piece says nothing of the next.
        deep = DeepFeatures(self.levels, every=every) if every > 1 and not in_pieces else None
        shortcuts = Shortcuts(deep, decided(request.merge_tokens), decided(request.attention_window))
        with model.predictor(run, stopped=lambda: run.stop is not None, shortcuts=shortcuts) as predict:

            def denoiser(tile: Tile) -> Denoise:
                denoise = guided(
                    predict,
                    model.prediction,
                    functools.partial(self._texts, tile),
                    scale=guidance_of(request, model.distillation),
                    rescale=request.guidance_rescale,
                    split=lambda: request.split_guidance or model.splits_guidance,
                    until=self.levels[round(until * (len(self.levels) - 1))] if until < 1 else None,
                    announce=deep.announce if deep else None,
                )
                return lambda latents, level: model.within_memory(lambda: denoise(latents, level), run)

            denoise = in_tiles(denoiser, cut, self.levels)
            yield denoise if self.known is None else self.known.holding(denoise, self.levels)


@dataclass(frozen=True, slots=True)
class _Progress:
    """Which of a pass' steps come (`first` to `steps`), and how many of all passes' `total` are `done` before."""

    first: int
    steps: int
    done: int
    total: int


def _follow(trajectory: Iterator[Step], model: VideoModel, run: Run, progress: _Progress) -> Sampled:
    """Take all steps, or as many as are whole when a stop comes.

    A device that computes beside us has the next step's work before it is asked about the last one: it never waits for
    us, and we are never more than a step ahead of it. A CPU is asked at once, for a step of its may take a minute.
    """
    last: Step | None = None
    unchecked: Callable[[], None] | None = None
    with contextlib.suppress(Stopped):
        for step in run.track(trajectory, stage=Stage.SAMPLING, total=progress.total, unit="step", done=progress.done):
            check, unchecked = unchecked, picture_check(step.denoised)
            if not traits_of(str(step.denoised.device)).works_beside:
                check, unchecked = unchecked, None
            if check is not None:
                check()
            last = step
            run.report(Preview(progress.first + step.index + 1, functools.partial(model.preview, step.denoised[0])))
            if run.stop:
                break
    if last is None:
        raise Cancelled
    if unchecked is not None:
        unchecked()
    done = progress.first + last.index + 1
    is_whole = done == progress.steps
    return Sampled(last.latents if is_whole else last.denoised, done, whole=is_whole)


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


def _passes(frames: int, fill_in: int, *, closed: bool) -> tuple[Strided, ...]:
    """Few frames first, then twice as many, up to the clip's; fewer than `FEWEST_KEYS` would show no movement."""
    gaps, fewest = (frames, FEWEST_KEYS) if closed else (frames - 1, FEWEST_KEYS - 1)
    doublings = max(0, min(fill_in, (gaps // fewest).bit_length() - 1))
    strides = [2**doubling for doubling in reversed(range(doublings + 1))]
    return tuple(Strided(math.ceil(gaps / stride) + (not closed), stride) for stride in strides)


def _at(known: Known, part: Strided) -> Known:
    """What is known of these frames; one stands for its neighbours, too, where they are held more than itself."""
    held = known.hold.amax(dim=(0, 1, 3, 4)).tolist()
    places = [_most_held(number, part.stride, held) for number in part.numbers(tuple(range(part.count)))]
    return Known(known.latents[:, :, places], known.hold[:, :, places])


def _most_held(number: int, stride: int, held: Sequence[float]) -> int:
    """The frame that is held most of those around a number, the nearest one of several."""
    last = len(held) - 1
    around = range(min(last, number - (stride - 1) // 2), min(last, number + stride // 2) + 1)
    return max(around, key=lambda frame: (held[frame], -abs(frame - number)))


def _with_key_frames(keys: Tensor, part: Strided, known: Known | None, *, closed: bool) -> Known:
    """Twice as many frames: the key frames as they are, and each one between as the mean of its two for a while."""
    after = keys.roll(-1, dims=2) if closed else torch.cat([keys[:, :, 1:], keys[:, :, -1:]], dim=2)
    between = (keys + after) / 2
    latents = torch.stack([keys, between], dim=3).flatten(2, 3)[:, :, : part.count]
    hold = torch.ones_like(latents[:, :1])
    hold[:, :, 1::2] = 1 - FILL_STRENGTH
    if known is not None:
        is_nearer = known.hold > hold
        latents = torch.where(is_nearer, known.latents, latents)
        hold = torch.maximum(hold, known.hold)
    return Known(latents, hold)


def _steps_of(known: Known | None, steps: int) -> int:
    return steps if known is None else steps - known.first_step(steps)
