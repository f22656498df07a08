"""Renders on this machine, with the weights of the request's model."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from t2v_core.errors import Cancelled, DeviceLostError, OutOfMemoryError, Txt2VideoError
from t2v_core.host import Host
from t2v_core.models.catalogue import find_model
from t2v_core.models.hashing import user_cache_folder
from t2v_core.models.layouts import ModelFolder
from t2v_core.models.loading import count_parameters
from t2v_core.models.lora.find import LoraFile
from t2v_core.models.lora.find import find as find_lora
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.postprocess.upscale import find_upscaler
from t2v_core.prompts.editing import SecondPass
from t2v_core.rendering.conditioning import chunks_said, script_of
from t2v_core.rendering.devices import (
    free_memory,
    is_lost,
    is_out_of_memory,
    memory_held,
    memory_in_use,
    no_gradients,
    on_device,
    traits_of,
)
from t2v_core.rendering.distilled import guidance_of
from t2v_core.rendering.footprint import ClipShape, footprint_of
from t2v_core.rendering.forecast import Forecast, Watch, Work, foretell, read, remember
from t2v_core.rendering.given import NOTHING, Given, gather
from t2v_core.rendering.heap import working_memory
from t2v_core.rendering.input_notes import input_notes
from t2v_core.rendering.inputs import check_inputs
from t2v_core.rendering.joining import completed
from t2v_core.rendering.launching import Launching
from t2v_core.rendering.local_model import LocalModel
from t2v_core.rendering.loras import check_precision, loras_of, with_loras_named
from t2v_core.rendering.memory_plan import MemoryPlan, plan_memory
from t2v_core.rendering.number_formats import number_format
from t2v_core.rendering.passes import cut_of, levels_of, share_of_work
from t2v_core.rendering.plain_attention import attention_by
from t2v_core.rendering.plan import AUTO, FUSED, Plan, Rest, resolve_precision
from t2v_core.rendering.prompt_cache import PromptCache
from t2v_core.rendering.refining import enlarged, given_again, joined, second_request
from t2v_core.rendering.source_size import check_given, fill_from_source
from t2v_core.rendering.story import tell
from t2v_core.request import GenerationRequest, decided, problem
from t2v_core.run import PassStarted, Run
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
        check_inputs(request, self._host.input_folders)
        request = with_loras_named(request, self._find_lora)
        loras = loras_of(request, folder, self._find_lora)
        check_precision(request, loras)
        distillation = loras.distillation
        parameters = self._parameters(folder)
        precision = resolve_precision(request.precision, device=self._host.device(), parameters=parameters)
        # A folder that has no name among the models stays named by its path, so that it's found again.
        name = request.model if folder.folder == _as_folder(request.model) else folder.name
        own = folder.config.defaults if distillation is None else distillation.over(folder.config.defaults)
        request = fill_from_source(request, own, multiple=folder.config.vae.downsampling)
        resolved = dataclasses.replace(request, model=name, precision=precision).resolve(own)
        check_given(resolved)
        _check_size(resolved, multiple=folder.config.vae.downsampling)
        levels_of(resolved, NoiseSchedule.from_config(dataclasses.asdict(folder.config.noise)), distillation)
        script_of(resolved)
        for second, its_folder in self._all_passes(resolved, folder)[1:]:
            find_upscaler(second.upscaler, self._host.upscalers())
            script_of(second, second=SecondPass(decided(resolved.steps)))
            loras_of(second, its_folder, self._find_lora)
        return resolved

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """See `Renderer.session`: the host's device is ours; afterwards the model goes where it rests."""
        device = self._host.device()
        with self._host.borrow_device(), on_device(device), working_memory(wanted=traits_of(device).is_cpu):
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
        """See `Renderer.forecast`; of two passes, their time together and the memory of the greedier one."""
        folder = self._find(request.model)
        resolved = self._resolve(request, folder)
        told = [
            self._foretold(one, its_folder, has_source=number > 0 or bool(one.source))
            for number, (one, its_folder) in enumerate(self._all_passes(resolved, folder))
        ]
        greediest = max(told, key=lambda forecast: forecast.peak or 0)
        seconds = [forecast.seconds for forecast in told if forecast.seconds is not None]
        return dataclasses.replace(
            greediest, seconds=sum(seconds) * resolved.count if len(seconds) == len(told) else None
        )

    def _all_passes(
        self, request: GenerationRequest, folder: ModelFolder
    ) -> list[tuple[GenerationRequest, ModelFolder]]:
        """A request for each pass of a resolved one, with its model."""
        return [(request, folder), self._second(request)] if request.refine else [(request, folder)]

    def _foretold(self, request: GenerationRequest, folder: ModelFolder, *, has_source: bool) -> Forecast:
        """The forecast of one pass over one clip, from a source or not."""
        plan = self._plan(request)
        weights = plan.dtype.itemsize * self._parameters(folder)
        loaded = self._model is not None and self._model.serves(folder, plan)
        told = foretell(self._work(request, folder, has_source=has_source), read(self._measurements), loaded=loaded)
        memory, free = self._memory_plan(request, folder, plan)
        if self._model is None:
            self._base = memory_in_use("cpu")()
        held = self._base if traits_of(plan.device).is_cpu else 0
        return Forecast(
            plan.device,
            plan.precision,
            weights,
            seconds=told,
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
        clip, model = self._shape(request, folder), self._model
        loaded = model.loaded if model is not None and model.serves(folder, plan) else ()
        return plan_memory(footprint, clip, device=plan.device, asked=request.memory, free=free, loaded=loaded), free

    def _shape(self, request: GenerationRequest, folder: ModelFolder) -> ClipShape:
        script, cell = script_of(request), folder.config.vae.downsampling
        shape = _cells(request, folder)
        tile = cut_of(request, (0, *shape), cell=cell).tiles(shape, step=0)[0]
        return ClipShape(
            *shape,
            piece=(len(tile.frames.indices), len(tile.rows.indices), len(tile.columns.indices)),
            guided=self._is_guided(request, folder) and not request.split_guidance,
            text_chunks=max(len(chunks_said(text)) for text in script.texts()),
            conds=1 if request.split_guidance else script.prompt.parts,
            by_frame=script.differs_by_frame,
        )

    def _is_guided(self, request: GenerationRequest, folder: ModelFolder) -> bool:
        scale = guidance_of(request, loras_of(request, folder, self._find_lora).distillation)
        return not script_of(request).prompt.is_whole(scale)

    def _work(self, request: GenerationRequest, folder: ModelFolder, *, has_source: bool) -> Work:
        shape = _cells(request, folder)
        cell = folder.config.vae.downsampling
        needed = share_of_work(request, shape, cell=cell, has_source=has_source) * passes(
            request.steps or 1,
            is_guided=self._is_guided(request, folder),
            reuse_features=request.reuse_features or 1,
            guidance_until=1.0 if request.guidance_until is None else request.guidance_until,
            conds=script_of(request).prompt.parts,
        )
        return Work(folder.name, self._host.device(), request.precision, math.prod(shape), max(1, round(needed)))

    def _parameters(self, folder: ModelFolder) -> int:
        if self._examined is None or self._examined[0] != folder:
            self._examined = (folder, sum(count_parameters(folder, part) for part in Part))
        return self._examined[1]

    def render(self, request: GenerationRequest, run: Run) -> Video:
        """See `Renderer.render`."""
        device = self._host.device()
        if self._model is None:
            self._base = memory_in_use("cpu")()
        try:
            with on_device(device), no_gradients(device), attention_by(fused=_is_fused(request, device)):
                check_inputs(request, self._host.input_folders)
                files = input_notes(request)
                given = gather(request, run, folder=self._host.output_folder)
                if request.refine:
                    run.report(PassStarted(0, 2))
                video = self._pass(request, self._find(request.model), given, run)
                if request.refine and not video.partial:
                    run.report(PassStarted(1, 2))
                    video = self._refined(video, given, run)
                video = completed(video, given)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) and not is_lost(error):
                raise
            self._model = None
            # What has failed is still held by the frames that it came through.
            traceback.clear_frames(error.__traceback__)
            raise _for_people(error, request, device=device) from error
        return dataclasses.replace(video, notes={**video.notes, **files})

    def _pass(
        self,
        request: GenerationRequest,
        folder: ModelFolder,
        given: Given,
        run: Run,
        *,
        second: SecondPass | None = None,
    ) -> Video:
        """One clip from one model."""
        watch = Watch()
        with run.heard_by(watch):
            model = self._model_for(folder, request, run=run)
            loras = loras_of(request, folder, self._find_lora)
            model.wear(loras, cfg_scale=request.cfg_scale or 1.0)
            model.launching = Launching(request.compile, request.cuda_graph)
            model.prepare(request, self._shape(request, folder))
            video = tell(request, model, run, given=given, folder=self._host.output_folder, second=second)
        if not video.partial and not given:
            remember(self._measurements, watch.measurement(self._work(request, folder, has_source=False)))
        notes = {**video.notes, **loras.notes(), **model.memory_notes(), **model.launch_notes()}
        return dataclasses.replace(video, notes=notes)

    def _refined(self, video: Video, given: Given, run: Run) -> Video:
        """The video after its second pass; as it is, and partial, if a stop came before that had anything to show."""
        (request, folder), output = self._second(video.request), self._host.output_folder
        try:
            again = gather(request, run, folder=output) if given.anchors or given.mask is not None else NOTHING
            larger = enlarged(video, request, run, upscalers=self._host.upscalers(), folder=output)
            second = SecondPass(decided(video.request.steps))
            return joined(larger, self._pass(request, folder, given_again(again, larger.frames), run, second=second))
        except Cancelled:
            return dataclasses.replace(video, partial=True)

    def _second(self, request: GenerationRequest) -> tuple[GenerationRequest, ModelFolder]:
        """What the second pass of a resolved request does, and with which model."""
        folder = self._find(request.refine_model or request.model)
        second = second_request(request, multiple=folder.config.vae.downsampling)
        name = second.model if second.model == request.model else folder.name
        return dataclasses.replace(second, model=name), folder

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


def _cells(request: GenerationRequest, folder: ModelFolder) -> tuple[int, int, int]:
    """(f, h, w) of a resolved request's latents."""
    cell = folder.config.vae.downsampling
    return decided(request.frames), decided(request.height) // cell, decided(request.width) // cell


def _as_folder(name: str) -> Path | None:
    return Path(name).absolute() if name and Path(name).is_dir() else None


def _check_size(request: GenerationRequest, *, multiple: int) -> None:
    for name in ("width", "height"):
        value = getattr(request, name)
        if value % multiple:
            raise problem(name, f"{name.title()} must be a multiple of {multiple} for {request.model}, not {value}.")
