"""Our program as a contender, through the same renderer that the tab and the command line use."""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.compare.contender import Clip, Stages, Weights, synchronize
from benchmarks.compare.sizes import CELL
from benchmarks.compare.weights import ORIGINAL
from t2v_core.hosts.standalone import StandaloneHost
from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.rendering.local import LocalRenderer
from t2v_core.rendering.local_model import LocalModel
from t2v_core.rendering.measures import AUTO
from t2v_core.request import GenerationRequest
from t2v_core.run import Event, Notice, Progress, Run, Stage

log = logging.getLogger(__name__)


class Ours:
    """The local renderer with the model in the bench's folder.

    `rung` is how it saves memory, `compiled` asks for the compiled path.
    """

    def __init__(
        self,
        folder: Path,
        config: ModelConfig,
        *,
        device: str,
        precision: str,
        rung: str = AUTO,
        compiled: bool = False,
    ) -> None:
        self.name = "ours compiled" if compiled else "ours"
        self._folder = folder / ORIGINAL
        self._config = config
        self._device, self._precision, self._rung, self._compiled = device, precision, rung, compiled
        self._size: dict[str, Any] = {}
        self._midst = contextlib.ExitStack()
        self._renderer = LocalRenderer(StandaloneHost(models_folder=folder, device_name=device))

    def take(self, weights: Weights) -> None:
        """Ours reads its own files: it may turn the weights into the machine's layout in place."""
        raise NotImplementedError

    def load(self) -> None:
        """Load all parts by making the smallest clip."""
        side = CELL * CELL
        self._leave()
        smallest = {"width": side, "height": side, "frames": 1, "steps": 1, "cfg_scale": 1.0}
        with self._renderer.session():
            self._renderer.render(self._request(**smallest), Run())

    @torch.no_grad()
    def step(self, latents: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        """One pass of the UNet; see `Contender.step`."""
        batch, _, frames, height, width = latents.shape
        model = self._ready(width=width * CELL, height=height * CELL, frames=frames, cfg_scale=float(batch))
        given = [value.to(self._device) for value in (latents, timesteps, text)]
        with model.predictor(Run(), stopped=lambda: False) as predict:
            return predict(*given)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Frames of latents, in the program's chunks; see `Contender.decode`."""
        frames, _, height, width = latents.shape
        size = {"width": width * CELL, "height": height * CELL, "frames": frames}
        model = self._ready(**size)
        chunks = latents.to(self._device).split(model.decode_chunk(self._request(**size)))
        with model.decoder(Run(), stopped=lambda: False) as to_pictures:
            return torch.cat([to_pictures(chunk) for chunk in chunks])

    def generate(self, clip: Clip) -> Stages:
        """A whole clip; see `Contender.generate`."""
        size = clip.size
        request = self._request(
            prompt=clip.prompt,
            negative_prompt=clip.negative_prompt,
            width=size.width,
            height=size.height,
            frames=size.frames,
            steps=clip.steps,
            sampler=clip.sampler,
            cfg_scale=clip.cfg_scale,
            seed=clip.seed,
        )
        self._leave()
        clock = _Clock(self._device)
        began = time.perf_counter()
        with self._renderer.session():
            video = self._renderer.render(request, Run(clock))
        ended = time.perf_counter()
        return Stages(
            seconds=ended - began,
            sampling=clock.began[Stage.DECODING] - clock.began[Stage.SAMPLING],
            decoding=ended - clock.began[Stage.DECODING],
            frames=np.divide(video.frames[:], 255, dtype=np.float32),
        )

    def _leave(self) -> None:
        """Be where a run begins."""
        self._size = {}
        self._midst.close()

    def _ready(self, **fields: Any) -> LocalModel:
        """The renderer's model in the midst of a run, which has decided how a clip of this size saves memory."""
        model = self._renderer._model
        assert model is not None, "load comes first"
        if not self._size:
            self._midst.enter_context(self._renderer.session())
        if fields != self._size:
            request = self._request(**fields)
            model.prepare(request, self._renderer._shape(request, self._renderer._find(request.model)))
            self._size = fields
        return model

    def _request(self, **fields: Any) -> GenerationRequest:
        request = GenerationRequest(model=str(self._folder), precision=self._precision, memory=self._rung, **fields)
        if self._compiled:
            request = request.with_field("compile", True)
        return self._renderer.resolve(request)


class _Clock:
    """A listener that notes when each stage began, and passes on what the user would be told."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.began: dict[Stage, float] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Notice):
            log.warning("ours says: %s", event.message)
        if isinstance(event, Progress) and event.stage not in self.began:
            synchronize(self._device)
            self.began[event.stage] = time.perf_counter()
