"""Renders on this machine, with the weights of the request's model."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from t2v_core.errors import DeviceLostError, OutOfMemoryError, Txt2VideoError
from t2v_core.host import Host
from t2v_core.models.catalogue import find_model
from t2v_core.models.hashing import user_cache_folder
from t2v_core.models.layouts import ModelFolder
from t2v_core.models.loading import count_parameters
from t2v_core.models.lora.find import LoraFile
from t2v_core.models.lora.find import find as find_lora
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.tokenizer import tokenize
from t2v_core.rendering.devices import (
    free_memory,
    is_lost,
    is_out_of_memory,
    memory_held,
    memory_in_use,
    no_gradients,
    traits_of,
)
from t2v_core.rendering.distilled import guidance_of
from t2v_core.rendering.footprint import ClipShape, footprint_of
from t2v_core.rendering.forecast import Forecast, Watch, Work, foretell, read, remember
from t2v_core.rendering.heap import keeping_memory
from t2v_core.rendering.launching import Launching
from t2v_core.rendering.local_model import LocalModel
from t2v_core.rendering.loras import check_precision, loras_of, with_loras_named
from t2v_core.rendering.memory_plan import MemoryPlan, plan_memory
from t2v_core.rendering.number_formats import number_format
from t2v_core.rendering.plain_attention import attention_by
from t2v_core.rendering.plan import AUTO, FUSED, Plan, Rest, resolve_precision
from t2v_core.rendering.prompt_cache import PromptCache
from t2v_core.rendering.story import levels_of, tell
from t2v_core.request import GenerationRequest, problem
from t2v_core.run import Run
from t2v_core.sampling.schedule import NoiseSchedule
from t2v_core.speed import passes
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
        self._base = 0
        """What the process took of main memory before it had a model."""
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
        loras = loras_of(request, folder, self._find_lora)
        check_precision(request, loras)
        distillation = loras.distillation
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
        with self._host.borrow_device(), keeping_memory(wanted=traits_of(self._host.device()).is_cpu):
            try:
                yield
            finally:
                self._put_to_rest()

    def _put_to_rest(self) -> None:
        rest = self._rest()
        if rest is Rest.NOWHERE:
            self._model = None
        elif rest is Rest.MAIN_MEMORY and self._model is not None:
            self._model.rest(keep=True)

    def forecast(self, request: GenerationRequest) -> Forecast:
        """See `Renderer.forecast`."""
        folder = self._find(request.model)
        resolved = self._resolve(request, folder)
        plan = self._plan(resolved)
        weights = plan.dtype.itemsize * self._parameters(folder)
        loaded = self._model is not None and self._model.serves(folder, plan)
        told = foretell(self._work(resolved, folder), read(self._measurements), loaded=loaded)
        memory, free = self._memory_plan(resolved, folder, plan)
        if self._model is None:
            self._base = memory_in_use("cpu")()
        held = self._base if traits_of(plan.device).is_cpu else 0
        return Forecast(
            plan.device,
            plan.precision,
            weights,
            seconds=None if told is None else told * resolved.count,
            peak=memory.peak + held,
            held=held,
            measures=memory.measures,
            short_of=0 if free is None else max(0, memory.peak - free),
        )

    def _memory_plan(
        self, request: GenerationRequest, folder: ModelFolder, plan: Plan
    ) -> tuple[MemoryPlan, int | None]:
        """What a run would do about memory, with what of it would be free then."""
        formats = tuple((part, number_format(plan.precision_of(part), device=plan.device)) for part in Part)
        free = free_memory(plan.device)
        if free is not None:
            # By then whoever has the device now will have left it: ourselves, or a WebUI's image model.
            free += self._model.weights if self._model and traits_of(plan.device).is_cpu else memory_held(plan.device)
        footprint = footprint_of(folder.config, formats, device=plan.device)
        clip = self._shape(request, folder)
        return plan_memory(footprint, clip, device=plan.device, asked=request.memory, free=free), free

    def _shape(self, request: GenerationRequest, folder: ModelFolder) -> ClipShape:
        cell = folder.config.vae.downsampling
        chunks = max(len(tokenize(prompt)) for prompt in (request.prompt, request.negative_prompt))
        return ClipShape(
            frames=request.frames or 1,
            height=(request.height or cell) // cell,
            width=(request.width or cell) // cell,
            guided=self._is_guided(request, folder) and not request.split_guidance,
            text_chunks=chunks,
        )

    def _is_guided(self, request: GenerationRequest, folder: ModelFolder) -> bool:
        return guidance_of(request, loras_of(request, folder, self._find_lora).distillation) != 1

    def _work(self, request: GenerationRequest, folder: ModelFolder) -> Work:
        cells = _pixels(request) // folder.config.vae.downsampling**2 * (request.frames or 1)
        needed = passes(
            request.steps or 1,
            is_guided=self._is_guided(request, folder),
            reuse_features=request.reuse_features or 1,
            guidance_until=1.0 if request.guidance_until is None else request.guidance_until,
        )
        return Work(folder.name, self._host.device(), request.precision, cells, needed)

    def _parameters(self, folder: ModelFolder) -> int:
        if self._examined is None or self._examined[0] != folder:
            self._examined = (folder, sum(count_parameters(folder, part) for part in Part))
        return self._examined[1]

    def render(self, request: GenerationRequest, run: Run) -> Video:
        """See `Renderer.render`."""
        device = self._host.device()
        watch = Watch()
        if self._model is None:
            self._base = memory_in_use("cpu")()
        try:
            with run.heard_by(watch), no_gradients(device), attention_by(fused=_is_fused(request, device)):
                folder = self._find(request.model)
                model = self._model_for(folder, request, run=run)
                loras = loras_of(request, folder, self._find_lora)
                model.wear(loras, cfg_scale=request.cfg_scale or 1.0)
                model.launching = Launching(request.compile, request.cuda_graph)
                model.prepare(request, self._shape(request, folder))
                video = tell(request, model, run)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) and not is_lost(error):
                raise
            model = self._model = None
            # What has failed is still held by the frames that it came through.
            traceback.clear_frames(error.__traceback__)
            raise _for_people(error, request, device=device) from error
        if not video.partial:
            remember(self._measurements, watch.measurement(self._work(request, folder)))
        return dataclasses.replace(
            video, notes={**video.notes, **loras.notes(), **model.memory_notes(), **model.launch_notes()}
        )

    def _plan(self, request: GenerationRequest) -> Plan:
        return Plan(device=self._host.device(), precision=request.precision, vae_precision=request.vae_precision)

    def _model_for(self, folder: ModelFolder, request: GenerationRequest, *, run: Run) -> LocalModel:
        plan = self._plan(request)
        if self._model is None or not self._model.serves(folder, plan):
            self._model = None  # gives the memory back before the next one takes its own
            self._model = LocalModel(folder, plan, run, prompts=self._prompts)
        return self._model


def _is_fused(request: GenerationRequest, device: str) -> bool:
    return request.attention == FUSED or (request.attention == AUTO and traits_of(device).fused_attention)


def _pixels(request: GenerationRequest) -> int:
    return (request.width or 0) * (request.height or 0)


def _for_people(error: Exception, request: GenerationRequest, *, device: str) -> Txt2VideoError:
    """A device that failed or memory that ran out on the last rung, with what to do about it."""
    if is_lost(error):
        return DeviceLostError(
            f"The {traits_of(device).label} device failed in the middle of the work: {str(error).splitlines()[0]}",
            remedy="Start the program again: nothing more can run on the device in this one. If that happens often, "
            "look for a newer driver, or undo overclocking.",
        )
    frames = max(1, (request.frames or 1) // 2)
    return OutOfMemoryError(
        f"{request.width}×{request.height} with {request.frames} frames doesn't fit into memory, with every measure "
        "that saves some.",
        remedy="Lower the number of frames or the size, close other programs, or choose Precision bf16.",
        lower={"frames": frames} if frames < (request.frames or 1) else {},
    )


def _as_folder(name: str) -> Path | None:
    return Path(name).absolute() if name and Path(name).is_dir() else None


def _check_size(request: GenerationRequest, *, multiple: int) -> None:
    for name in ("width", "height"):
        value = getattr(request, name)
        if value % multiple:
            raise problem(name, f"{name.title()} must be a multiple of {multiple} for {request.model}, not {value}.")
