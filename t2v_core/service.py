"""Requests in, files out: seeds, batches and saving, the same for every front door."""

from __future__ import annotations

import dataclasses
import platform
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from t2v_core import __version__
from t2v_core.errors import Cancelled, FieldProblem, RequestError
from t2v_core.fields import Choices
from t2v_core.host import Host
from t2v_core.infotext import PROGRAM, format_infotext
from t2v_core.media import PRESETS, WRITERS, Encoding
from t2v_core.media.naming import numbered_names
from t2v_core.media.output import check_output_folder, estimated_bytes, save
from t2v_core.models.catalogue import DEMO, DEMO_KNOWS
from t2v_core.rendering.plan import PRECISIONS
from t2v_core.rendering.renderer import Renderer
from t2v_core.request import LARGEST_SEED, RANDOM_SEED, GenerationRequest
from t2v_core.run import ClipSaved, ClipStarted, Notice, Run, Stage
from t2v_core.sampling import SAMPLERS, SCHEDULES
from t2v_core.video import Frames, Video

CHOICES: Choices = {
    "sampler": tuple(SAMPLERS),
    "schedule": tuple(SCHEDULES),
    "format": tuple(WRITERS),
    "preset": PRESETS,
    "precision": PRECISIONS,
}
"""What the fields that name a row of a table may say, made from the tables."""


def generate(
    requests: Sequence[GenerationRequest], *, renderer: Renderer, host: Host, run: Run, folder: Path | None = None
) -> list[ClipSaved]:
    """Make and save every clip of every request, one file a clip, in order.

    What can be known to be wrong is said before the first clip begins. Whatever happens later, a clip that was
    finished stays on the disk, and a stopped one is kept as a file that is named partial.

    Raises:
        RequestError: with everything that is wrong with any of the requests.
        OutputError: the folder can't be written to, or the disk hasn't the room.
        Cancelled: the user stopped before there was anything to keep.
        Txt2VideoError: as `Renderer.render`.
    """
    resolved = _resolve(requests, renderer)
    folder = folder or host.output_folder
    check_output_folder(folder, sum(_expected_bytes(request) * request.count for request in resolved))
    if resolved[0].model == DEMO and not requests[0].model:
        run.report(Notice(f"There is no other model here, so the demo model is used. {DEMO_KNOWS}"))
    clips = [clip for request in resolved for clip in single_clips(request)]
    saved = []
    for index, clip in enumerate(clips):
        if not run.begin_clip():
            break
        run.report(ClipStarted(index, len(clips), clip))
        try:
            video = renderer.render(clip, run)
        except Cancelled:
            continue
        saved.append(ClipSaved(_save(video, folder, run), video.partial))
        run.report(saved[-1])
    if not saved:
        raise Cancelled
    return saved


def single_clips(request: GenerationRequest) -> Iterator[GenerationRequest]:
    """A request for each clip, with a seed of its own: the first one's, then one more each time."""
    first = secrets.randbelow(LARGEST_SEED + 1) if request.seed == RANDOM_SEED else request.seed
    for index in range(request.count):
        yield dataclasses.replace(request, seed=(first + index) % (LARGEST_SEED + 1), count=1)


def infotext_of(video: Video) -> str:
    """The whole recipe of a video, as it stands in its file."""
    return format_infotext(
        video.request,
        video.model,
        partial_steps=video.steps_done if video.partial else None,
        notes=video.notes,
        versions={PROGRAM: __version__, "Python": platform.python_version(), **video.versions},
    )


def _resolve(requests: Sequence[GenerationRequest], renderer: Renderer) -> list[GenerationRequest]:
    """Check and resolve all requests; problems of several requests are told apart by their number."""
    resolved, problems = [], []
    for number, request in enumerate(requests, start=1):
        try:
            request.check(CHOICES)
            resolved.append(renderer.resolve(request))
        except RequestError as error:
            place = f"Request {number}: " if len(requests) > 1 else ""
            problems += [FieldProblem(problem.field, place + problem.message) for problem in error.problems]
    if problems:
        raise RequestError(problems)
    return resolved


def _save(video: Video, folder: Path, run: Run) -> Path:
    request, writer = video.request, WRITERS[video.request.format]
    frames, height, width, _ = video.frames.shape
    encoding = Encoding(
        width=width,
        height=height,
        fps=request.fps or 1,
        infotext=infotext_of(video),
        crf=request.crf,
        preset=request.preset,
    )
    names = numbered_names(folder, seed=request.seed, suffix=writer.suffix, partial=video.partial)
    chunks: Iterable[Frames] = (video.frames[index : index + 1] for index in range(frames))
    chunks = run.track(chunks, stage=Stage.ENCODING, total=frames, unit="frame")
    return save(chunks, folder, names, writer=writer, encoding=encoding)


def _expected_bytes(request: GenerationRequest) -> int:
    return estimated_bytes(width=request.width or 0, height=request.height or 0, frames=request.frames or 0)
