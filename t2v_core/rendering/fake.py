"""A renderer for tests and for trying out front doors: no weights, no torch, frames at once."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np

from t2v_core.errors import Cancelled
from t2v_core.rendering.forecast import Forecast
from t2v_core.rendering.plan import AUTO, FULL_PRECISION
from t2v_core.request import GenerationRequest, ModelDefaults
from t2v_core.run import Preview, Run, Stage
from t2v_core.video import Frames, ModelIdentity, Video

IDENTITY = ModelIdentity("fake", "0123456789")


class FakeRenderer:
    """Paints each frame in one colour that depends on the seed, and stops where a real renderer would."""

    def __init__(self, defaults: ModelDefaults | None = None) -> None:
        self.defaults = defaults or ModelDefaults(steps=4, width=32, height=16, frames=3)
        self.rendered: list[GenerationRequest] = []

    def resolve(self, request: GenerationRequest) -> GenerationRequest:
        """See `Renderer.resolve`; every model's name is right."""
        precision = FULL_PRECISION if request.precision == AUTO else request.precision
        return dataclasses.replace(request, model=request.model or IDENTITY.name, precision=precision).resolve(
            self.defaults
        )

    def forecast(self, request: GenerationRequest) -> Forecast:
        """See `Renderer.forecast`; a second a step, and a megabyte a frame."""
        resolved = self.resolve(request)
        seconds, peak = float((resolved.steps or 1) * resolved.count), 10**6 * (resolved.frames or 1)
        return Forecast("cpu", resolved.precision, weights=0, seconds=seconds, peak=peak)

    def session(self) -> contextlib.AbstractContextManager[None]:
        """See `Renderer.session`; nothing is needed."""
        return contextlib.nullcontext()

    def render(self, request: GenerationRequest, run: Run) -> Video:
        """See `Renderer.render`."""
        self.rendered.append(request)
        steps = request.steps or 0
        done = 0
        for _ in run.track(range(steps), stage=Stage.SAMPLING, total=steps, unit="step"):
            done += 1
            run.report(Preview(done, lambda: _frames(request)[:, ::8, ::8]))
            if run.stop:
                break
        if done == 0:
            raise Cancelled
        return Video(_frames(request), request, IDENTITY, steps_done=done, partial=done < steps)


def _frames(request: GenerationRequest) -> Frames:
    colours = np.random.default_rng(request.seed).integers(0, 256, (request.frames or 1, 1, 1, 3), dtype=np.uint8)
    return np.broadcast_to(colours, (len(colours), request.height or 8, request.width or 8, 3)).copy()
