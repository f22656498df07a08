"""Renders on this machine, with the weights of the request's model."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from t2v_core.errors import NonFiniteError, OutOfMemoryError
from t2v_core.host import Host
from t2v_core.models.catalogue import find_model
from t2v_core.models.layouts import ModelFolder
from t2v_core.models.loading import count_parameters
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.rendering.local_model import LocalModel
from t2v_core.rendering.plan import FULL_PRECISION, Plan, Rest, resolve_precision
from t2v_core.rendering.story import levels_of, tell
from t2v_core.request import GenerationRequest, problem
from t2v_core.run import Notice, Run
from t2v_core.sampling.schedule import NoiseSchedule
from t2v_core.video import Video

logger = logging.getLogger(__name__)


class LocalRenderer:
    """Keeps the last model that it used, so that the next clip loads nothing; `rest` says where between sessions."""

    def __init__(self, host: Host, *, rest: Callable[[], Rest] = lambda: Rest.ON_DEVICE) -> None:
        self._host = host
        self._rest = rest
        self._model: LocalModel | None = None
        self._examined: tuple[ModelFolder, int] | None = None

    def resolve(self, request: GenerationRequest) -> GenerationRequest:
        """See `Renderer.resolve`."""
        folder = find_model(request.model, self._host.models_folders)
        if self._examined is None or self._examined[0] != folder:
            self._examined = (folder, sum(count_parameters(folder, part) for part in Part))
        precision = resolve_precision(request.precision, device=self._host.device(), parameters=self._examined[1])
        # A folder that has no name among the models stays named by its path, so that it's found again.
        name = request.model if folder.folder == _as_folder(request.model) else folder.name
        resolved = dataclasses.replace(request, model=name, precision=precision).resolve(folder.config.defaults)
        _check_size(resolved, multiple=folder.config.vae.downsampling)
        levels_of(resolved, NoiseSchedule.from_config(dataclasses.asdict(folder.config.noise)))
        return resolved

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """See `Renderer.session`: the host's device is ours; afterwards the model goes where it rests."""
        with self._host.borrow_device():
            try:
                yield
            finally:
                self._put_to_rest()

    def render(self, request: GenerationRequest, run: Run) -> Video:
        """See `Renderer.render`; what isn't finite is tried once more in fp32."""
        try:
            return self._render(request, run)
        except NonFiniteError as error:
            if request.precision == FULL_PRECISION:
                raise NonFiniteError(
                    error.problem,
                    remedy="The model's files may be damaged: python -m t2v_core doctor --thorough examines them. "
                    "If they are whole, lower the CFG scale.",
                ) from error
            run.report(Notice(f"{error.problem} Trying once more in {FULL_PRECISION}."))
        return self._render(dataclasses.replace(request, precision=FULL_PRECISION), run)

    def _put_to_rest(self) -> None:
        rest = self._rest()
        if rest is Rest.NOWHERE:
            self._model = None
        elif rest is Rest.MAIN_MEMORY and self._model is not None:
            self._model.move_to("cpu")

    def _render(self, request: GenerationRequest, run: Run) -> Video:
        try:
            return tell(request, self._model_for(request, run), run)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            self._model = None
            raise OutOfMemoryError(
                f"{request.width}×{request.height} with {request.frames} frames doesn't fit into memory.",
                remedy="Lower the size or the number of frames, switch Split guidance on, or choose Precision bf16.",
            ) from error

    def _model_for(self, request: GenerationRequest, run: Run) -> LocalModel:
        plan = Plan(device=self._host.device(), precision=request.precision)
        folder = find_model(request.model, self._host.models_folders)
        if self._model is None or not self._model.serves(folder, plan):
            self._model = None  # gives the memory back before the next one takes its own
            self._model = LocalModel(folder, plan, run)
        self._model.move_to(plan.device)
        return self._model


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
