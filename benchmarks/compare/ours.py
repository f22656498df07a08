"""Our program as a contender, through the same renderer that the tab and the command line use."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.compare.contender import Clip, FallbackError, Stages, Weights, Work, synchronize
from benchmarks.compare.results import COMPILED, GRAPHED, OURS
from benchmarks.compare.sizes import CELL
from benchmarks.compare.weights import ORIGINAL
from t2v_core.hosts.standalone import StandaloneHost
from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.rendering.devices import no_gradients
from t2v_core.rendering.graphed import WARM_UP
from t2v_core.rendering.launching import Launching
from t2v_core.rendering.local import LocalRenderer
from t2v_core.rendering.local_model import LocalModel
from t2v_core.rendering.measures import AUTO
from t2v_core.request import GenerationRequest
from t2v_core.run import Event, Notice, Progress, Run, Stage

_INSTEAD = ("The network couldn't be ", "The network isn't ")
"""How the program begins to say that it doesn't compile or record."""


class Ours:
    """The local renderer with the model in the bench's folder.

    `name` is one of `results.WAYS`, `rung` is how it saves memory.
    """

    def __init__(
        self,
        folder: Path,
        config: ModelConfig,
        *,
        device: str,
        precision: str,
        name: str = OURS,
        rung: str = AUTO,
    ) -> None:
        self.name = name
        self._folder = folder / ORIGINAL
        self._config = config
        self._device, self._precision, self._rung = device, precision, rung
        self._launching = Launching(COMPILED in name.split(), GRAPHED in name.split())
        self._midst = contextlib.ExitStack()
        """What a run has open in the midst of it."""
        self._heard: list[str] = []
        self._asked: GenerationRequest | None = None
        self._renderer = LocalRenderer(StandaloneHost(models_folder=folder, device_name=device))

    def said(self) -> list[str]:
        """What the program told its user, and which number formats it took instead; see `Contender.said`."""
        heard, self._heard = self._heard, []
        model, asked = self._renderer._model, self._asked
        if model is None or asked is None:
            return heard
        if self._launching.cuda_graph and not model._launches_freely:
            heard.append(f"{_INSTEAD[1]}recorded: to save memory it works in slices or blocks.")
        instead = [text for text in heard if text.startswith(_INSTEAD)]
        if instead:
            raise FallbackError(" ".join(instead))
        used = model.used(asked)
        if used != asked:
            autoencoder = used.precision if used.vae_precision == AUTO else used.vae_precision
            heard.append(f"The UNet computes in {used.precision}, the autoencoder in {autoencoder}.")
        return heard

    def take(self, weights: Weights) -> None:
        """Ours reads its own files: it may turn the weights into the machine's layout in place."""
        raise NotImplementedError

    def load(self) -> None:
        """Load all parts by making the smallest clip, for which nothing is compiled: its code would serve no other."""
        side = CELL * CELL
        self._midst.close()
        smallest = {"width": side, "height": side, "frames": 1, "steps": 1, "cfg_scale": 1.0}
        with self._renderer.session():
            self._renderer.render(self._request(launching=Launching(), **smallest), Run(self._hear))

    def stepper(self, latents: Tensor, timesteps: Tensor, text: Tensor) -> Work:
        """One pass of the UNet; see `Contender.stepper`."""
        clips, _, frames, height, width = latents.shape
        request = self._request(width=width * CELL, height=height * CELL, frames=frames, cfg_scale=float(len(text)))
        with no_gradients(self._device):
            model = self._enter(request)
            # The same tensors in each go: by its own one the network knows a text whose keys and values it has.
            latents, timesteps, text = (value.to(self._device) for value in (latents, timesteps, text))
            texts = text.split(1) if clips < len(text) and model.splits_guidance else (text,)
            predict = self._midst.enter_context(model.predictor(Run(self._hear), stopped=lambda: False))

        def step() -> Tensor:
            with no_gradients(self._device):
                return torch.cat([predict(latents, timesteps, each) for each in texts])

        if self._launching.cuda_graph:
            for _ in range(WARM_UP + 1):  # from here on it's replayed
                step()
        return step

    def decoder(self, latents: Tensor) -> Work:
        """Frames of latents, in the program's chunks; see `Contender.decoder`."""
        frames, _, height, width = latents.shape
        request = self._request(width=width * CELL, height=height * CELL, frames=frames)
        with no_gradients(self._device):
            model = self._enter(request)
            chunks = latents.to(self._device).split(model.decode_chunk(request))
            to_pictures = self._midst.enter_context(model.decoder(Run(self._hear), stopped=lambda: False))

        def decode() -> Tensor:
            with no_gradients(self._device):
                return torch.cat([to_pictures(chunk) for chunk in chunks])

        return decode

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
        self._midst.close()
        self._asked = request
        clock = _Clock(self._device)
        began = time.perf_counter()
        with self._renderer.session():
            video = self._renderer.render(request, Run(clock, self._hear))
        ended = time.perf_counter()
        return Stages(
            seconds=ended - began,
            sampling=clock.began[Stage.DECODING] - clock.began[Stage.SAMPLING],
            decoding=ended - clock.began[Stage.DECODING],
            frames=np.divide(video.frames[:], 255, dtype=np.float32),
        )

    def _enter(self, request: GenerationRequest) -> LocalModel:
        """The renderer's model in the midst of a new run, which has decided how a clip like this saves memory."""
        self._midst.close()
        if self._renderer._model is None:  # given up, as after its memory ran out
            self.load()
        model, self._asked = self._renderer._model, request
        assert model is not None
        self._midst.enter_context(self._renderer.session())
        model.launching = Launching(request.compile, request.cuda_graph)
        model.prepare(request, self._renderer._shape(request, self._renderer._find(request.model)))
        return model

    def _hear(self, event: Event) -> None:
        if isinstance(event, Notice):
            self._heard.append(event.message)

    def _request(self, *, launching: Launching | None = None, **fields: Any) -> GenerationRequest:
        wanted = asdict(launching or self._launching)
        request = GenerationRequest(
            model=str(self._folder), precision=self._precision, memory=self._rung, **wanted, **fields
        )
        return self._renderer.resolve(request)


class _Clock:
    """A listener that notes when each stage began."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.began: dict[Stage, float] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress) and event.stage not in self.began:
            synchronize(self._device)
            self.began[event.stage] = time.perf_counter()
