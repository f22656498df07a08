"""The story of a video, told with tiny random networks."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
import torch

from t2v_core.errors import Cancelled, NonFiniteError
from t2v_core.models.modelscope.shortcuts import NO_SHORTCUTS
from t2v_core.prompts.editing import SecondPass
from t2v_core.rendering import devices, passes
from t2v_core.rendering.interruptible import Stopped
from t2v_core.rendering.story import tell
from t2v_core.request import GenerationRequest, ModelDefaults
from t2v_core.run import Preview, Progress, Run, Stage
from t2v_core.sampling import SAMPLERS, SCHEDULES
from t2v_core.sampling.denoiser import Prediction
from t2v_core.sampling.schedule import NoiseSchedule
from t2v_core.video import ModelIdentity

REQUEST = GenerationRequest(prompt="a", seed=7, precision="fp32", model="tiny").resolve(
    ModelDefaults(steps=3, width=32, height=16, frames=5)
)


class TinyModel:
    """A network whose prediction depends on everything it's given, and a decoder that tells frames apart.

    Both have two blocks, and may be left between them; `blocks` counts those that were run.
    """

    identity = ModelIdentity("tiny", "0" * 10)
    prediction = Prediction.EPS
    noise_schedule = NoiseSchedule.linear_sd()
    distillation = None
    splits_guidance = False

    def __init__(self, *, chunk: int = 2, broken_from: int | None = None) -> None:
        self.chunk = chunk
        self.calls = 0
        self.blocks = 0
        self.previews = 0
        self.broken_from = broken_from

    def used(self, request):
        return request

    def widen(self, part, error, run):
        raise error

    def latent_shape(self, request):
        return 4, request.frames, request.height // 8, request.width // 8

    def within_memory(self, work, run):
        return work()

    def decode_chunk(self, request):
        return self.chunk

    def encode(self, prompts, run):
        return torch.stack([torch.full((2, 3), float(len(prompt))) for prompt in prompts])

    def work(self, run, stopped):
        for _ in range(2):
            if stopped():
                raise Stopped
            self.blocks += 1
            run.report(self.blocks)

    @contextlib.contextmanager
    def predictor(self, run, *, stopped, shortcuts=NO_SHORTCUTS):
        def predict(latents, timesteps, text):
            self.work(run, stopped)
            self.calls += 1
            if self.broken_from is not None and self.calls >= self.broken_from:
                return torch.full((len(text), *latents.shape[1:]), torch.nan)
            shift = (text.mean(dim=(1, 2)) + timesteps / 1000)[:, None, None, None, None]
            return torch.tanh(latents + shift)

        yield predict

    @contextlib.contextmanager
    def decoder(self, run, *, stopped):
        def to_pictures(latents):
            self.work(run, stopped)
            return latents.mean(1, keepdim=True).repeat(1, 3, 8, 8).sigmoid()

        yield to_pictures

    def preview(self, latents):
        self.previews += 1
        return np.zeros((*latents.shape[1:], 3), np.uint8)


def stop_at(stage, done, *, how="interrupt"):
    """A run whose user stops once a stage has got so far."""

    def listen(event):
        if isinstance(event, Progress) and event.stage is stage and event.done == done:
            getattr(run, how)()

    run = Run(listen)
    return run


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_tells_a_whole_video_that_the_seed_decides(sampler):
    request = dataclasses.replace(REQUEST, sampler=sampler, cfg_scale=1.0 if sampler == "LCM" else 9.0)
    first, again = (tell(request, TinyModel(), Run()) for _ in range(2))
    assert first.frames.shape == (5, 16, 32, 3)
    assert not first.partial
    assert np.array_equal(first.frames, again.frames)
    other = tell(dataclasses.replace(request, seed=8), TinyModel(), Run())
    assert not np.array_equal(first.frames, other.frames)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_takes_the_asked_number_of_steps(schedule):
    model = TinyModel()
    tell(dataclasses.replace(REQUEST, schedule=schedule, steps=7), model, Run())
    assert model.calls == 7


def test_frames_do_not_depend_on_how_many_are_decoded_at_once():
    videos = [tell(REQUEST, TinyModel(chunk=chunk), Run()).frames for chunk in (1, 2, 5)]
    assert np.array_equal(videos[0], videos[1])
    assert np.array_equal(videos[0], videos[2])


def test_split_guidance_gives_the_same_video_in_twice_the_calls():
    together, split = TinyModel(), TinyModel()
    frames = tell(REQUEST, together, Run()).frames
    same = tell(dataclasses.replace(REQUEST, split_guidance=True), split, Run()).frames
    assert np.array_equal(frames, same)
    assert (together.calls, split.calls) == (3, 6)


def test_a_stop_while_sampling_keeps_the_estimate_and_all_its_frames():
    video = tell(REQUEST, TinyModel(), stop_at(Stage.SAMPLING, 2))
    assert video.partial
    assert video.steps_done == 2
    assert len(video.frames) == 5


def stop_in_block(*blocks):
    """A run whose user stops while these blocks of the networks are busy, counted from 1."""
    run = Run(lambda event: run.interrupt() if event in blocks else None)
    return run


@pytest.mark.parametrize(("block", "steps"), [(3, 1), (4, 2), (5, 2), (6, 3)])
def test_a_stop_in_a_step_gives_up_that_step_and_keeps_those_before(block, steps):
    model = TinyModel()
    video = tell(REQUEST, model, stop_in_block(block))
    assert video.steps_done == steps
    assert video.partial == (steps < 3)
    assert len(video.frames) == 5
    decoding = 2 * 3
    assert model.blocks == block + decoding
    if not video.partial:
        assert np.array_equal(video.frames, tell(REQUEST, TinyModel(), Run()).frames)


def test_a_stop_in_the_first_step_keeps_nothing_and_runs_no_further_block():
    model = TinyModel()
    with pytest.raises(Cancelled):
        tell(REQUEST, model, stop_in_block(1))
    assert model.blocks == 1


@pytest.mark.parametrize(("block", "frames", "more"), [(7, 1, 1), (8, 1, 0), (9, 1, 0), (10, 3, 0), (11, 3, 0)])
def test_a_stop_in_a_chunk_gives_it_up_but_never_the_first_frame(block, frames, more):
    model = TinyModel()
    video = tell(REQUEST, model, stop_in_block(block))
    assert len(video.frames) == frames
    assert video.partial
    assert model.blocks == block + more
    assert np.array_equal(video.frames, tell(REQUEST, TinyModel(), Run()).frames[:frames])


def test_who_stopped_in_sampling_can_stop_once_more_in_decoding():
    video = tell(REQUEST, TinyModel(), stop_in_block(3, 7))
    assert (video.steps_done, len(video.frames)) == (1, 3)


def test_a_stop_while_decoding_keeps_the_frames_that_are_there():
    video = tell(REQUEST, TinyModel(), stop_at(Stage.DECODING, 3))
    assert video.partial
    assert video.steps_done == 3
    assert len(video.frames) == 3
    assert np.array_equal(video.frames, tell(REQUEST, TinyModel(), Run()).frames[: len(video.frames)])


def test_a_stop_before_the_first_step_keeps_nothing():
    run = Run()
    run.interrupt()
    with pytest.raises(Cancelled):
        tell(REQUEST, TinyModel(), run)


def test_progress_leaves_through_the_run_alone(capfd):
    events = []
    tell(REQUEST, TinyModel(), Run(events.append))
    seen = [(event.stage, event.done) for event in events if isinstance(event, Progress)]
    assert seen == [(Stage.SAMPLING, i) for i in range(4)] + [(Stage.DECODING, i) for i in (0, 1, 3, 5)]
    assert capfd.readouterr() == ("", "")


def test_a_preview_is_made_only_for_who_looks_at_it():
    events, model = [], TinyModel()
    tell(REQUEST, model, Run(events.append))
    previews = [event for event in events if isinstance(event, Preview)]
    assert [preview.step for preview in previews] == [1, 2, 3]
    assert model.previews == 0
    assert previews[-1].frames().shape == (5, 2, 4, 3)
    assert model.previews == 1


def test_what_is_no_picture_is_noticed_at_the_step_where_it_appears():
    model = TinyModel(broken_from=2)
    with pytest.raises(NonFiniteError):
        tell(REQUEST, model, Run())
    assert model.calls == 2


@pytest.mark.parametrize("broken_from", [2, 3])
def test_a_device_that_computes_beside_us_is_asked_about_a_step_when_it_has_the_next(monkeypatch, broken_from):
    """Nobody waits for it in between, and the last step is asked about too."""
    beside = dataclasses.replace(devices.traits_of("cpu"), works_beside=True)
    monkeypatch.setattr(passes, "traits_of", lambda device: beside)
    model = TinyModel(broken_from=broken_from)
    with pytest.raises(NonFiniteError):
        tell(REQUEST, model, Run())
    assert model.calls == 3


def test_a_second_pass_goes_on_with_the_edits_of_the_first():
    heard = []

    class Listening(TinyModel):
        def encode(self, prompts, run):
            heard.append(prompts)
            return super().encode(prompts, run)

    request = dataclasses.replace(REQUEST, prompt="[cat:dog:0.5][:!:5]")
    tell(request, Listening(), Run())
    tell(request, Listening(), Run(), second=SecondPass(3))
    assert heard == [("cat", "dog", ""), ("dog", "dog!", "")]
