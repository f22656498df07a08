"""Requests in, files out: seeds, batches and saving, the same for every front door."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from t2v_core import __version__
from t2v_core.errors import Cancelled, FieldProblem, RequestError, Txt2VideoError
from t2v_core.fields import Choices, names_in
from t2v_core.finishing import finish
from t2v_core.grid.labels import Words
from t2v_core.host import Host
from t2v_core.infotext import PROGRAM, format_infotext
from t2v_core.media import PRESETS, WRITERS
from t2v_core.media.naming import Placement
from t2v_core.media.output import check_output_folder, estimated_bytes
from t2v_core.media.stored_frames import IN_MEMORY
from t2v_core.models.catalogue import DEMO, DEMO_KNOWS
from t2v_core.orders import Clip, Order, order_of, single_clips
from t2v_core.output_fields import SOUND_FITS
from t2v_core.postprocess import INTERPOLATIONS, Footage
from t2v_core.postprocess.upscale import find_upscaler, upscaled_size
from t2v_core.prompts.script import BLENDS
from t2v_core.prompts.wildcards import Drawing, has_wildcards
from t2v_core.rendering.forecast import Forecast
from t2v_core.rendering.inputs import check_inputs
from t2v_core.rendering.measures import MEMORY
from t2v_core.rendering.plan import ATTENTIONS, PRECISIONS, VAE_PRECISIONS
from t2v_core.rendering.renderer import Renderer
from t2v_core.request import GenerationRequest, decided
from t2v_core.run import ClipStarted, Notice, Run
from t2v_core.sampling import SAMPLERS, SCHEDULES
from t2v_core.saving import Saver, check_formats
from t2v_core.sheets import SheetMaker, layout_for
from t2v_core.source_fields import FITS
from t2v_core.speed import SPEEDS
from t2v_core.video import Video

CHOICES: Choices = {
    "sampler": tuple(SAMPLERS),
    "schedule": tuple(SCHEDULES),
    "format": tuple(WRITERS),
    "preset": PRESETS,
    "sound_fit": SOUND_FITS,
    "precision": PRECISIONS,
    "vae_precision": VAE_PRECISIONS,
    "attention": ATTENTIONS,
    "memory": MEMORY,
    "speed": tuple(SPEEDS),
    "prompt_blend": BLENDS,
    "fit": FITS,
    "interpolation": INTERPOLATIONS,
}
"""What the fields that name a row of a table may say, made from the tables."""

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
    """Make and save every clip of every request, in order; the run reports the files of each as `ClipSaved`.

    Files go into `folder`, by default the host's; `place` says for each video where in it and under which name.

    What can be known to be wrong is said before the first clip begins. Whatever happens later, a clip that was
    finished stays on the disk, and a stopped one is kept as a file that is named partial.

    Raises:
        RequestError: with everything that is wrong with any of the requests.
        OutputError: the folder can't be written to, or the disk hasn't the room.
        Cancelled: the user stopped before there was anything to keep.
        Txt2VideoError: as `Renderer.render`.
    """
    orders = _orders(requests, renderer, host, run)
    clips = [clip.request for order in orders for clip in order.clips]
    folder = folder or host.output_folder
    check_output_folder(folder, sum(map(_expected_bytes, clips)) + max(map(_spooled_bytes, clips)))
    if clips[0].model == DEMO and not requests[0].model:
        run.report(Notice(f"There is no other model here, so the demo model is used. {DEMO_KNOWS}"))
    making = _Making(renderer, host, run, place or (lambda video: Placement(folder)), folder)
    begun = saved = 0
    with renderer.session():
        for order in orders:
            saved += making.make(order, begun=begun, count=len(clips))
            begun += len(order.clips)
    if not saved:
        raise Cancelled


@dataclass(frozen=True, slots=True)
class _Making:
    """What every order of one call is made with."""

    renderer: Renderer
    host: Host
    run: Run
    place: Place
    folder: Path

    def make(self, order: Order, *, begun: int, count: int) -> int:
        """Make and save the clips of one order, and its sheet; how many clips there are of it.

        `begun` clips of the `count` of the whole call came before.
        """
        made = 0
        with self._sheet(order) as sheet:
            for number, clip in enumerate(order.clips):
                if not self.run.begin_clip():
                    break
                self.run.report(ClipStarted(begun + number, count, clip.request))
                try:
                    video = self.renderer.render(clip.request, self.run)
                except Cancelled:
                    continue
                video = dataclasses.replace(video, notes={**video.notes, **clip.notes})
                video, footage = finish(video, upscalers=self.host.upscalers(), run=self.run, folder=self.folder)
                if order.keeps_clips:
                    self._save(video, footage, self.place(video), partial=video.partial)
                if sheet is not None:
                    sheet.add(number, video, footage)
                made += 1
        return made

    @contextlib.contextmanager
    def _sheet(self, order: Order) -> Iterator[SheetMaker | None]:
        """The sheet that the block fills, if there is to be one; what has come is saved in the end, come what may."""
        if order.sheet is None:
            yield None
            return
        with contextlib.closing(SheetMaker(order, folder=self.folder, run=self.run)) as sheet:
            try:
                yield sheet
            except BaseException:
                with contextlib.suppress(Txt2VideoError):
                    self._save_sheet(sheet)
                raise
            self._save_sheet(sheet)

    def _save_sheet(self, sheet: SheetMaker) -> None:
        if not sheet.made:
            return
        video, footage = sheet.whole()
        placement = self.place(video)
        stem = f"{placement.stem or video.request.seed}-{sheet.kind}"
        placement = dataclasses.replace(placement, stem=stem, frames_beside=False)
        self._save(video, footage, placement, partial=sheet.is_partial)

    def _save(self, video: Video, footage: Footage, placement: Placement, *, partial: bool) -> None:
        Saver(video, footage, placement, self.run, infotext=infotext_of(video), is_partial=partial).save()


def forecast(request: GenerationRequest, renderer: Renderer) -> Forecast:
    """What a request will take, all clips of its sheet together, before any work.

    Raises:
        Txt2VideoError: as `Renderer.resolve`, and what is wrong with a grid or with drafts.
    """
    if not (request.over or request.drafts or request.pick):
        return renderer.forecast(request)

    alike: dict[GenerationRequest, GenerationRequest] = {}

    def clips_of(clip: GenerationRequest) -> list[Clip]:
        clip.check(CHOICES)
        key = dataclasses.replace(clip, seed=0, prompt="", negative_prompt="")
        if key not in alike:
            alike[key] = dataclasses.replace(renderer.resolve(clip), count=1)
        return [Clip(alike[key])] * clip.count

    counts = Counter(clip.request for clip in order_of(request, clips_of).clips)
    told = [(renderer.forecast(clip), count) for clip, count in counts.items()]
    seconds = [None if one.seconds is None else one.seconds * count for one, count in told]
    highest = max((one for one, _ in told), key=lambda one: one.peak or 0)
    return dataclasses.replace(highest, seconds=None if None in seconds else math.fsum(filter(None, seconds)))


def infotext_of(video: Video) -> str:
    """The whole recipe of a video, as it stands in its file."""
    return format_infotext(
        video.request,
        video.model,
        partial_steps=video.steps_done if video.partial else None,
        notes=video.notes,
        versions={PROGRAM: __version__, "Python": platform.python_version(), **video.versions},
    )


def _orders(requests: Sequence[GenerationRequest], renderer: Renderer, host: Host, run: Run) -> list[Order]:
    """Check and resolve all requests; problems of several requests are told apart by their number."""
    missing: dict[str, None] = {}
    upscalers = host.upscalers()

    def clips_of(request: GenerationRequest) -> list[Clip]:
        request.check(CHOICES)
        check_formats(request)
        check_inputs(request, host.input_folders)
        if request.upscale != 1:  # who uses it otherwise looks for it there
            find_upscaler(request.upscaler, upscalers)
        drawn = _drawn(request, host, missing)
        if drawn is None:
            return [Clip(each) for each in single_clips(renderer.resolve(request))]
        return [Clip(renderer.resolve(clip.request), clip.notes) for clip in drawn]

    orders: list[Order] = []
    problems: dict[FieldProblem, None] = {}
    for number, request in enumerate(requests, start=1):
        try:
            request.check(CHOICES)
            orders.append(order_of(request, clips_of))
        except RequestError as error:
            place = f"Request {number}: " if len(requests) > 1 else ""
            problems |= {FieldProblem(problem.field, place + problem.message): None for problem in error.problems}
    if problems:
        raise RequestError(list(problems))
    for order in orders:
        if order.sheet is not None:
            layout_for(order, words=Words())  # what has no room is refused now
    if missing:
        names = ", ".join(f"__{name}__" for name in missing)
        run.report(Notice(f"There is no wildcard file for {names}, which stays in the prompt as it is."))
    return orders


def _drawn(request: GenerationRequest, host: Host, missing: dict[str, None]) -> list[Clip] | None:
    """Where its prompts have wildcards, the request's clips, drawn by their seeds; names without a file are added."""
    templates = {
        key: template
        for key, template in (("Template", request.prompt), ("Negative template", request.negative_prompt))
        if has_wildcards(template)
    }
    if not templates:
        return None
    clips = []
    for clip in single_clips(request):
        drawing = Drawing(host.wildcard_folders, clip.seed)
        prompts = {name: drawing.prompt(getattr(clip, name)) for name in ("prompt", "negative_prompt")}
        missing |= dict.fromkeys(drawing.missing)
        drawn = dataclasses.replace(clip, **prompts)
        changed = (drawn.prompt, drawn.negative_prompt) != (clip.prompt, clip.negative_prompt)
        clips.append(Clip(drawn, templates if changed else {}))
    return clips


def _expected_bytes(clip: GenerationRequest) -> int:
    """What the files of a clip take at most."""
    frames, width, height = _finished_size(clip)
    return estimated_bytes(width=width, height=height, frames=frames, formats=names_in(clip.format))


def _spooled_bytes(clip: GenerationRequest) -> int:
    """What a clip's frames take on the same disk while it is made; a gif goes through all of them twice."""
    frames, width, height = _finished_size(clip)
    taken = frames * width * height * 3
    return taken * (2 if "gif" in names_in(clip.format) else 1) if taken > IN_MEMORY else 0


def _finished_size(clip: GenerationRequest) -> tuple[int, int, int]:
    """How many frames the file of a clip has, their width and their height."""
    width, height = upscaled_size(decided(clip.width), decided(clip.height), factor=clip.upscale * (clip.refine or 1))
    frames = decided(clip.frames) * (2 if clip.ping_pong else 1)
    if clip.output_fps is not None:
        frames = math.ceil(frames * clip.output_fps / decided(clip.fps))
    return frames, width, height
