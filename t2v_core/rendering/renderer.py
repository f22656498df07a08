"""The seam between asking and making: whatever turns a request into a video is a `Renderer`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from t2v_core.rendering.forecast import Forecast
from t2v_core.request import GenerationRequest
from t2v_core.run import Run
from t2v_core.video import Video


class Renderer(Protocol):
    """The local model, another model family, a cluster, or a test's fake."""

    def resolve(self, request: GenerationRequest) -> GenerationRequest:
        """Name the model and the precision that will be used and fill every open field, before any work.

        Raises:
            ModelNotFoundError: no such model.
            WeightsError: the model's files are not what they should be.
            RequestError: this model can't make what is asked.
        """
        ...

    def forecast(self, request: GenerationRequest) -> Forecast:
        """What a request will take, before any work.

        Raises:
            Txt2VideoError: as `resolve`.
        """
        ...

    def session(self) -> AbstractContextManager[None]:
        """Have what it takes to render, such as the device, for all clips of the block; then give it back."""
        ...

    def render(self, request: GenerationRequest, run: Run) -> Video:
        """Make one clip of a resolved request with a seed of its own, inside a session.

        Raises:
            Cancelled: the user stopped before the first sampling step was done.
            NonFiniteError: the network's output is no picture, in fp32 too.
            OutOfMemoryError: it doesn't fit; the remedy says what to lower.
        """
        ...
