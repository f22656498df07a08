"""Renders on this machine, with the weights of the request's model."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from t2v_core.errors import OutOfMemoryError
from t2v_core.host import Host
from t2v_core.models.catalogue import find_model
from t2v_core.models.hashing import user_cache_folder
from t2v_core.models.layouts import ModelFolder
from t2v_core.models.loading import count_parameters
from t2v_core.models.lora.find import LoraFile
from t2v_core.models.lora.find import find as find_lora
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.rendering.devices import memory_in_use, no_gradients, traits_of
from t2v_core.rendering.distilled import guidance_of
from t2v_core.rendering.forecast import Forecast, Watch, Work, foretell, read, remember
from t2v_core.rendering.local_model import LocalModel
from t2v_core.rendering.loras import loras_of, with_loras_named
from t2v_core.rendering.plain_attention import attention_by
from t2v_core.rendering.plan import Plan, Rest, decode_chunk, resolve_precision
from t2v_core.rendering.prompt_cache import PromptCache
from t2v_core.rendering.story import levels_of, tell
from t2v_core.request import GenerationRequest, problem
from t2v_core.run import Run
from t2v_core.sampling.schedule import NoiseSchedule
from t2v_core.video import Video

logger = logging.getLogger(__name__)


class LocalRenderer:
    """Keeps the last model that it used, so that the next clip loads nothing; `rest` says where between sessions."""

    def __init__(self, host: Host, *, rest: Callable[[], Rest] = lambda: Rest.ON_DEVICE) -> None:
        self._host = host
        self._rest = rest
        self._measurements = user_cache_folder() / "measurements.json"
        self._prompts = PromptCache()
        self._model: LocalModel | None = None
        self._examined: tuple[ModelFolder, int] | None = None

    def resolve(self, request: GenerationRequest) -> GenerationRequest:
        """See `Renderer.resolve`."""
        return self._resolve(request, self._find(request.model))

    def _find(self, name: str) -> ModelFolder:
        return find_model(name, self._host.models_folders)

    def _find_lora(self, name: str) -> LoraFile:
        return find_lora(name, self._host.models_folders)

    def _resolve(self, request: GenerationRequest, folder: ModelFolder) -> GenerationRequest:
        request = with_loras_named(request, self._find_lora)
        distillation = loras_of(request, folder, self._find_lora).distillation
        parameters = self._parameters(folder)
        precision = resolve_precision(request.precision, device=self._host.device(), parameters=parameters)
        # A folder that has no name among the models stays named by its path, so that it's found again.
        name = request.model if folder.folder == _as_folder(request.model) else folder.name
        own = folder.config.defaults if distillation is None else distillation.over(folder.config.defaults)
        resolved = dataclasses.replace(request, model=name, precision=precision).resolve(own)
        _check_size(resolved, multiple=folder.config.vae.downsampling)
        levels_of(resolved, NoiseSchedule.from_config(dataclasses.asdict(folder.config.noise)), distillation)
        return resolved

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """See `Renderer.session`: the host's device is ours; afterwards the model goes where it rests."""
        with self._host.borrow_device():
            try:
                yield
            finally:
                self._put_to_rest()

    def _put_to_rest(self) -> None:
        rest = self._rest()
        if rest is Rest.NOWHERE:
            self._model = None
        elif rest is Rest.MAIN_MEMORY and self._model is not None:
            self._model.move_to("cpu")

    def forecast(self, request: GenerationRequest) -> Forecast:
        """See `Renderer.forecast`."""
        folder = self._find(request.model)
        resolved = self._resolve(request, folder)
        plan = self._plan(resolved)
        weights = plan.dtype.itemsize * self._parameters(folder)
        loaded = self._model is not None and self._model.serves(folder, plan)
        told = foretell(self._work(resolved, folder), read(self._measurements), loaded=loaded)
        measures = [f"frames decoded {decode_chunk(_pixels(resolved), device=plan.device)} at a time"]
        if resolved.split_guidance:
            measures.append("guidance split")
        forecast = Forecast(plan.device, plan.precision, weights, measures=tuple(measures))
        if told is None:
            return forecast
        seconds, beside = told
        return dataclasses.replace(forecast, seconds=seconds * resolved.count, peak=weights + beside)

    def _work(self, request: GenerationRequest, folder: ModelFolder) -> Work:
        cells = _pixels(request) // folder.config.vae.downsampling**2 * (request.frames or 1)
        guided = 1 if guidance_of(request, loras_of(request, folder, self._find_lora).distillation) == 1 else 2
        return Work(folder.name, self._host.device(), request.precision, cells, guided * (request.steps or 1))

    def _parameters(self, folder: ModelFolder) -> int:
        if self._examined is None or self._examined[0] != folder:
            self._examined = (folder, sum(count_parameters(folder, part) for part in Part))
        return self._examined[1]

    def render(self, request: GenerationRequest, run: Run) -> Video:
        """See `Renderer.render`."""
        device = self._host.device()
        watch = Watch(memory_in_use(device))
        before = self._model.weights if self._model is not None else 0
        try:
            with run.heard_by(watch), no_gradients(device), attention_by(fused=traits_of(device).fused_attention):
                folder = self._find(request.model)
                model = self._model_for(folder, request, run=run)
                loras = loras_of(request, folder, self._find_lora)
                model.wear(loras, cfg_scale=request.cfg_scale or 1.0)
                video = tell(request, model, run)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            self._model = None
            raise OutOfMemoryError(
                f"{request.width}×{request.height} with {request.frames} frames doesn't fit into memory.",
                remedy="Lower the size or the number of frames, switch Split guidance on, or choose Precision bf16.",
                lower=_lowered(request),
            ) from error
        if not video.partial:
            work = self._work(request, folder)
            remember(self._measurements, watch.measurement(work, weights=max(0, model.weights - before)))
        return dataclasses.replace(video, notes={**video.notes, **loras.notes()})

    def _plan(self, request: GenerationRequest) -> Plan:
        return Plan(device=self._host.device(), precision=request.precision, vae_precision=request.vae_precision)

    def _model_for(self, folder: ModelFolder, request: GenerationRequest, *, run: Run) -> LocalModel:
        plan = self._plan(request)
        if self._model is None or not self._model.serves(folder, plan):
            self._model = None  # gives the memory back before the next one takes its own
            self._model = LocalModel(folder, plan, run, prompts=self._prompts)
        self._model.move_to(plan.device)
        return self._model


def _pixels(request: GenerationRequest) -> int:
    return (request.width or 0) * (request.height or 0)


def _lowered(request: GenerationRequest) -> dict[str, int | bool]:
    """What to try after an out-of-memory: guidance in two halves, and where it was, half of the frames."""
    if not request.split_guidance and request.cfg_scale != 1:
        return {"split_guidance": True}
    return {"frames": max(1, (request.frames or 1) // 2)}


def _is_out_of_memory(error: Exception) -> bool:
    """Whether a device or the system had no memory left; on CPU and MPS torch says so in words alone."""
    words = str(error).lower()
    return (
        isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError))
        or "out of memory" in words
        or "can't allocate memory" in words
        or "not enough memory" in words
    )


def _as_folder(name: str) -> Path | None:
    return Path(name).absolute() if name and Path(name).is_dir() else None


def _check_size(request: GenerationRequest, *, multiple: int) -> None:
    for name in ("width", "height"):
        value = getattr(request, name)
        if value % multiple:
            raise problem(name, f"{name.title()} must be a multiple of {multiple} for {request.model}, not {value}.")
