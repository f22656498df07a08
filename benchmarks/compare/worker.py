"""A process that holds contenders and does what it's told, one JSON line after the other.

`python -m benchmarks.compare.worker` is started by `processes.Worker`. What a contender changes in its process, such as
the memory allocator's thresholds, touches no other one.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks.compare import limits, memory
from benchmarks.compare.contender import DTYPES, Clip, Contender, Weights, Work, synchronize
from benchmarks.compare.results import WAYS
from benchmarks.compare.sizes import Size
from benchmarks.compare.weights import ORIGINAL, random_values
from t2v_core.models import cpu_kernels, processor
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.rendering.measures import AUTO

TOKENS = 77
_TIMESTEP = 481
_LEAST_SECONDS, _MOST_TIMES = 0.5, 100


def make(name: str, folder: Path, config: ModelConfig, *, device: str, precision: str, rung: str = AUTO) -> Contender:
    """A contender by its name; `rung` is how ours saves memory.

    Raises:
        ImportError: its package isn't installed.
    """
    if name in WAYS:
        from benchmarks.compare.ours import Ours

        return Ours(folder, config, device=device, precision=precision, name=name, rung=rung)
    given: dict[str, Any] = {"device": device, "dtype": DTYPES[precision]}
    if name == "Diffusers":
        from benchmarks.compare.diffusers_code import Diffusers

        return Diffusers(folder, config, **given)
    from benchmarks.compare.modelscope_code import ModelScope

    return ModelScope(folder, config, **given)


class Desk:
    """The contenders of this process, and one method for each thing that can be asked."""

    def __init__(
        self, *, folder: str, device: str, precision: str, config: dict[str, Any], threads: int, rung: str
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._folder = Path(folder)
        self._config = ModelConfig.from_dict(config)
        self._device, self._precision, self._rung = device, precision, rung
        self._contenders: dict[str, Contender] = {}
        self._ready: dict[str, tuple[object, Work]] = {}
        """What each contender has done last and can do again, with what it was asked for."""
        self._takes: dict[str, int] = {}

    def describe(self) -> dict[str, Any]:
        """The machine as torch sees it."""
        gpu = torch.cuda.get_device_name(self._device) if self._device.startswith("cuda") else ""
        free = torch.cuda.mem_get_info(self._device)[0] if gpu else psutil.virtual_memory().available
        tiles = not gpu and cpu_kernels.multiplies_tiles()
        kernels = {
            "tiles": tiles,
            "vectors": "" if gpu else torch.backends.cpu.get_cpu_capability(),
            "family": "" if gpu else processor.fact("cpu family"),
        }
        return {"torch": torch.__version__, "threads": torch.get_num_threads(), "gpu": gpu, **kernels, "free": free}

    def limits(self, *, small: bool) -> dict[str, Any]:
        """The machine's peak in this number format, and its copy rate."""
        peak, by = limits.matrix_peak(self._device, DTYPES[self._precision], small=small)
        return {"flops": peak, "by": by, "copy": limits.copy_rate(self._device, small=small)}

    def prepare(self, *, names: list[str], own_files: bool = False) -> dict[str, Any]:
        """Make contenders ready; all but ours share one set of tensors, unless each loads its own files.

        Then ours waits for the clip, which loads what it needs.
        """
        made = [self._make(name) for name in names]
        before, began = memory.now(self._device), time.perf_counter()
        sharing = [contender for contender in made if not own_files and contender.name not in WAYS]
        weights = self._shared() if sharing else {}
        for contender in made:
            if contender in sharing:
                contender.take(weights)
            elif not (own_files and contender.name in WAYS):
                contender.load()
        synchronize(self._device)
        self._contenders |= {contender.name: contender for contender in made}
        return {"seconds": time.perf_counter() - began, "before": before}

    def start_and_load(self, *, name: str) -> dict[str, Any]:
        """Import a contender's code, and load its files from the disk as its users do."""
        began = time.perf_counter()
        contender = self._make(name)
        imported = time.perf_counter()
        limits.forget([path for path in self._folder.rglob("*") if path.suffix in {".pth", ".bin", ".safetensors"}])
        began_loading = time.perf_counter()
        contender.load()
        synchronize(self._device)
        loading = time.perf_counter() - began_loading
        if name in WAYS:
            # Ours loads when a clip is made: what the smallest one takes by itself is no loading.
            again = time.perf_counter()
            contender.load()
            loading -= time.perf_counter() - again
        return {"importing": imported - began, "loading": loading}

    def read_rate(self) -> dict[str, Any]:
        """Bytes a second of plain reading of the files that are loaded, and how many bytes they are."""
        files = [path for path in (self._folder / ORIGINAL).iterdir() if path.suffix in {".pth", ".bin"}]
        return {"rate": limits.read_rate(files), "bytes": sum(path.stat().st_size for path in files)}

    def step(self, *, name: str, size: list[int], guided: bool = False, save: str = "") -> dict[str, Any]:
        """One pass of the UNet over random latents, or a step with guidance."""

        def ready() -> Work:
            return self._contenders[name].stepper(*_inputs(Size(*size), self._config, guided=guided))

        return self._timed(name, ("step", guided, *size), ready, save=save)

    def decode(self, *, name: str, size: list[int], save: str = "") -> dict[str, Any]:
        """The frames of random latents."""
        _, channels, frames, height, width = Size(*size).latents

        def ready() -> Work:
            latents = random_values("latents to decode", (frames, channels, height, width))
            return self._contenders[name].decoder(latents)

        return self._timed(name, ("decode", *size), ready, save=save)

    def generate(self, *, name: str, size: list[int], steps: int, sampler: str, save: str = "") -> dict[str, Any]:
        """A whole clip."""
        self._ready.pop(name, None)
        # Each go has a prompt of its own, the same for everybody: a remembered prompt would spare ours the text tower.
        self._takes[name] = self._takes.get(name, 0) + 1
        clip = Clip(Size(*size), steps=steps, sampler=sampler)
        clip = replace(clip, prompt=f"{clip.prompt}, take {self._takes[name]}")
        stages = self._contenders[name].generate(clip)
        if save:
            np.save(save, stages.frames)
        times = {"seconds": stages.seconds, "sampling": stages.sampling, "decoding": stages.decoding}
        return {**times, "said": self._contenders[name].said()}

    def forget_peak(self) -> dict[str, Any]:
        """Count the peak from here on."""
        memory.forget_peak(self._device)
        return {"now": memory.now(self._device)}

    def peak(self) -> dict[str, Any]:
        """The peak since `forget_peak`, or since the start."""
        return {"peak": memory.peak(self._device)}

    def _make(self, name: str) -> Contender:
        given = {"device": self._device, "precision": self._precision, "rung": self._rung}
        return make(name, self._folder, self._config, **given)

    def _timed(self, name: str, asked: object, ready: Callable[[], Work], *, save: str) -> dict[str, Any]:
        """One go of a contender, which is made ready before unless it did the same the last time."""
        if self._ready.get(name, (None,))[0] != asked:
            self._ready.pop(name, None)
            self._ready[name] = (asked, ready())
            synchronize(self._device)
        _, work = self._ready[name]
        result, seconds = timed(work, device=self._device)
        if save:
            np.save(save, result.float().cpu().numpy())
        return {"seconds": seconds, "said": self._contenders[name].said()}

    def _shared(self) -> Weights:
        """The original files' tensors on the device and in the number format, once for all who share them."""
        files, dtype = self._config.files, DTYPES[self._precision]
        names = {Part.UNET: files.unet, Part.AUTOENCODER: files.autoencoder, Part.TEXT: files.text}
        weights: dict[Part, dict[str, torch.Tensor]] = {}
        for part, name in names.items():
            state = torch.load(self._folder / ORIGINAL / name, map_location="cpu", mmap=True, weights_only=True)
            state = state.get("state_dict", state)
            wanted = {key.removeprefix("first_stage_model."): value for key, value in state.items()}
            unused = f"transformer.resblocks.{self._config.text.layers - 1}."
            weights[part] = {
                key: value.to(self._device, dtype, copy=True)
                for key, value in wanted.items()
                if part is not Part.TEXT or not (key.startswith(unused) or key == "text_projection")
            }
        return weights


def timed(work: Work, *, device: str) -> tuple[torch.Tensor, float]:
    """What a work gives, and the seconds that it takes.

    On a GPU it's the mean of as many in a row as take half a second, after one that doesn't count: they follow each
    other as a clip's steps do, and the GPU isn't found at rest.
    """

    def seconds_of(times: int) -> tuple[torch.Tensor, float]:
        began = time.perf_counter()
        for _ in range(times - 1):
            work()
        result = work()
        synchronize(device)
        return result, (time.perf_counter() - began) / times

    result, once = seconds_of(1)
    if device.startswith("cpu"):
        return result, once
    return seconds_of(min(_MOST_TIMES, max(1, round(_LEAST_SECONDS / once))))


def _inputs(size: Size, config: ModelConfig, *, guided: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    latents = random_values("latents", size.latents)
    text = random_values("text", (2 if guided else size.batch, TOKENS, config.unet.context_dim))
    return latents, torch.full((size.batch,), _TIMESTEP), text


def serve() -> None:
    """Answer until the questions end; what libraries print goes to the log."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    desk: Desk | None = None
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        what = question.pop("do")
        try:
            if what == "begin":
                desk = Desk(**question)
                answer = desk.describe()
            else:
                answer = getattr(desk, what)(**question)
        except Exception as error:  # the other end decides what it means
            logging.exception("%s failed", what)
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve()
