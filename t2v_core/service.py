"""Requests in, files out: seeds, batches and saving, the same for every front door."""

from __future__ import annotations

import dataclasses
import math
import platform
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from t2v_core import __version__
from t2v_core.errors import Cancelled, FieldProblem, RequestError
from t2v_core.fields import Choices
from t2v_core.host import Host
from t2v_core.infotext import PROGRAM, format_infotext
from t2v_core.media import PRESETS, WRITERS, Encoding
from t2v_core.media.naming import Placement
from t2v_core.media.output import check_output_folder, estimated_bytes, save, save_frames, save_text
from t2v_core.models.catalogue import DEMO, DEMO_KNOWS
from t2v_core.postprocess import INTERPOLATIONS
from t2v_core.rendering.measures import MEMORY
from t2v_core.rendering.plan import ATTENTIONS, PRECISIONS, VAE_PRECISIONS
from t2v_core.rendering.renderer import Renderer
from t2v_core.request import LARGEST_SEED, RANDOM_SEED, GenerationRequest
from t2v_core.run import ClipSaved, ClipStarted, Notice, Run, Stage
from t2v_core.sampling import SAMPLERS, SCHEDULES
from t2v_core.source_fields import FITS
from t2v_core.speed import SPEEDS
from t2v_core.video import Frames, Video

CHOICES: Choices = {
    "sampler": tuple(SAMPLERS),
    "schedule": tuple(SCHEDULES),
    "format": tuple(WRITERS),
    "preset": PRESETS,
    "precision": PRECISIONS,
    "vae_precision": VAE_PRECISIONS,
    "attention": ATTENTIONS,
    "memory": MEMORY,
    "speed": tuple(SPEEDS),
    "fit": FITS,
    "interpolation": INTERPOLATIONS,
}
"""What the fields that name a row of a table may say, made from the tables."""

STOP_WITHIN = 1.0
"""Seconds that writing a clip may go on after a stop, so that its last frames aren't lost for a moment's wait."""

Place = Callable[[Video], Placement]
"""Where a video is saved, and under which name."""


def generate(
    requests: Sequence[GenerationRequest],
    *,
    renderer: Renderer,
    host: Host,
    run: Run,
    folder: Path | None = None,
    place: Place | None = None,
) -> None:
    """Make and save every clip of every request, one file a clip, in order; the run reports each as `ClipSaved`.

    Files go into `folder`, by default the host's; `place` says for each video where in it and under which name.

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
    saved = 0
    with renderer.session():
        for index, clip in enumerate(clips):
            if not run.begin_clip():
                break
            run.report(ClipStarted(index, len(clips), clip))
            try:
                video = renderer.render(clip, run)
            except Cancelled:
                continue
            infotext = infotext_of(video)
            placement = place(video) if place else Placement(folder)
            run.report(_save(video, placement, run, infotext=infotext))
            saved += 1
    if not saved:
        raise Cancelled


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


def _save(video: Video, placement: Placement, run: Run, *, infotext: str) -> ClipSaved:
    request, writer = video.request, WRITERS[video.request.format]
    frames, height, width, _ = video.frames.shape
    encoding = Encoding(
        width=width, height=height, fps=request.fps or 1, infotext=infotext, crf=request.crf, preset=request.preset
    )
    encoded = 0

    def chunks() -> Iterator[Frames]:
        nonlocal encoded
        for index in _until_stopped(range(frames), run):
            yield video.frames[index : index + 1]
            encoded += 1

    def names() -> Iterator[str]:  # asked for when the last frame is written
        yield from placement.names(seed=request.seed, suffix=writer.suffix, partial=video.partial or encoded < frames)

    tracked = run.track(chunks(), stage=Stage.ENCODING, total=frames, unit="frame")
    path = save(tracked, placement.folder, names(), writer=writer, encoding=encoding)
    if placement.text_beside:
        save_text(infotext, path.with_suffix(".txt"))
    if placement.frames_beside:
        save_frames(video.frames[:], path.with_name(f"{path.stem}-frames"))
    # A copy: whoever keeps a view of one frame keeps the whole video.
    return ClipSaved(path, video.partial or encoded < frames, infotext, video.frames[:1][0].copy())


def _until_stopped(indices: Iterable[int], run: Run) -> Iterator[int]:
    """The indices up to the time when a stop that comes now must have been obeyed; most clips are whole before."""
    stops, end = run.stops, math.inf
    for index in indices:
        if run.stops > stops and end == math.inf:
            end = time.monotonic() + STOP_WITHIN
        if index and time.monotonic() > end:
            break
        yield index


def _expected_bytes(request: GenerationRequest) -> int:
    return estimated_bytes(width=request.width or 0, height=request.height or 0, frames=request.frames or 0)
