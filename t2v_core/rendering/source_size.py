"""What a request leaves open and its source decides: size, frames and rate; and what the files of a request must be."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from t2v_core.errors import FieldProblem, RequestError, UnreadableFileError
from t2v_core.media.source import SourceFacts, source_facts
from t2v_core.rendering.inputs import Named, anchors_in, paths_in
from t2v_core.request import FIELDS, GenerationRequest, ModelDefaults, problem

MUCH_LARGER = 4
"""A clip that is carried on keeps its size unless it has this many times the model's own pixels."""

MOST_JOINED = 36_000
"""Frames of a clip that is carried on in one file with the new one: twenty minutes at 30 a second."""

SIZED_BY = ("source", "continue_from", "first_frame", "last_frame")
"""Whose shape a clip takes, the first that is given."""


def fill_from_source(request: GenerationRequest, own: ModelDefaults, *, multiple: int) -> GenerationRequest:
    """Fill size, frames and rate that are left open from the pictures and videos that are given, where there are any.

    `own` are the model's own values and `multiple` is what its widths and heights are multiples of.

    Raises:
        UnreadableFileError: a file isn't there, or isn't what it should be.
        RequestError: nothing is left of the source, or too much.
    """
    if not any(paths_in(request)):
        return request
    request = _timed(request)
    shape = _shape_of(request)
    if shape is None or None not in (request.width, request.height):
        return request
    width, height = _sized(request, shape, own, multiple=multiple)
    return dataclasses.replace(request, width=width, height=height)


def check_given(request: GenerationRequest) -> None:
    """See that all that a resolved request names is there, can be read, and fits together; opens each file briefly.

    Raises:
        UnreadableFileError: the first file that isn't there, or isn't what it should be.
        RequestError: with everything that doesn't fit together.
    """
    problems = tuple(_misfits(request))
    if problems:
        raise RequestError(problems)
    for named in paths_in(request):
        if named.field != "sound":
            facts_of(named)


def facts_of(named: Named) -> SourceFacts:
    """What a file of a request is.

    Raises:
        UnreadableFileError: as `source_facts`, and it says which field names the file.
    """
    try:
        return source_facts(named.path)
    except UnreadableFileError as error:
        remedy = error.remedy or f"Choose the file again, or clear {named.label}."
        raise UnreadableFileError(f"{named.label}: {error.problem}", remedy=remedy) from error


def trimmed(request: GenerationRequest, facts: SourceFacts) -> float:
    """How many seconds of the source are wanted.

    Raises:
        RequestError: none are left.
    """
    start, end = request.source_start, request.source_end
    if end and end <= start:
        raise problem("source_end", f"Source end ({end:g} s) must come after Source start ({start:g} s).")
    if not facts.is_still and start >= facts.seconds > 0:
        raise problem("source_start", f"The source is {_seconds(facts.seconds)} long: nothing begins at {start:g} s.")
    return min(end or facts.seconds, facts.seconds) - start


def old_frames(facts: SourceFacts, fps: float) -> int:
    """How many frames a clip that is carried on has at a rate."""
    return 1 if facts.is_still else max(1, round(facts.frames / facts.fps * fps))


def _timed(request: GenerationRequest) -> GenerationRequest:
    name = "source" if request.source.strip() else "continue_from"
    text = getattr(request, name)
    if not text.strip():
        return request
    facts = facts_of(Named(name, text))
    if facts.is_still:
        return request
    low, high = FIELDS["fps"].spec.minimum or 1, FIELDS["fps"].spec.maximum or 120
    fps = round(min(max(facts.fps, low), high), 3) if request.fps is None else request.fps
    frames = request.frames
    if name == "source":
        seconds = trimmed(request, facts)
        if frames is None:
            is_whole = not (request.source_start or request.source_end) and abs(fps - facts.fps) < 0.001
            frames = facts.frames if is_whole else max(1, round(seconds * fps))
            most = int(FIELDS["frames"].spec.maximum or frames)
            if frames > most:
                raise problem(
                    "frames",
                    f"The source has {frames:,} frames ({_seconds(seconds)} at {fps:g} a second), and a clip at most "
                    f"{most:,}. Say how many in Frames, or where to stop in Source end.",
                )
    return dataclasses.replace(request, fps=fps, frames=frames)


def _shape_of(request: GenerationRequest) -> tuple[str, int, int] | None:
    """The field whose file gives the clip its shape, with its width and height."""
    named = [Named(name, text) for name in SIZED_BY if (text := getattr(request, name)).strip()]
    named += [anchor.named for anchor in anchors_in(request.anchors)]
    if not named:
        return None
    facts = facts_of(named[0])
    return named[0].field, facts.width, facts.height


def _sized(
    request: GenerationRequest, shape: tuple[str, int, int], own: ModelDefaults, *, multiple: int
) -> tuple[int, int]:
    """Width and height of the picture's shape, each a multiple; the longest side is the model's where it draws anew."""
    field, wide, high = shape
    is_small = field == "continue_from" and wide * high <= MUCH_LARGER * own.width * own.height
    is_kept = field == "source" and request.strength == 0 and not request.mask.strip()
    if request.width is not None:
        scale = request.width / wide
    elif request.height is not None:
        scale = request.height / high
    elif is_small or is_kept:
        scale = 1.0
    else:
        scale = max(own.width, own.height) / max(wide, high)

    def rounded(length: float, name: str) -> int:
        most = int(FIELDS[name].spec.maximum or 4096) // multiple
        return multiple * min(max(int(length / multiple + 0.5), 1), most)

    width = rounded(wide * scale, "width") if request.width is None else request.width
    height = rounded(high * scale, "height") if request.height is None else request.height
    return width, height


def _misfits(request: GenerationRequest) -> Iterator[FieldProblem]:
    """What contradicts itself in a resolved request."""
    frames, fps = request.frames or 1, request.fps or 1.0
    continued = request.continue_frames if request.continue_from.strip() else 0
    if request.mask.strip() and not request.source.strip():
        yield FieldProblem("mask", "A mask needs a source: without one there is nothing that could stay.")
    if request.join and not continued:
        yield FieldProblem("join", "Join needs a clip to carry on, in Continue from.")
    if request.join and continued:
        old = old_frames(facts_of(Named("continue_from", request.continue_from)), fps)
        if old > MOST_JOINED:
            yield FieldProblem(
                "join", f"The clip to carry on has {old:,} frames: {MOST_JOINED:,} at most can be joined."
            )
    if continued >= frames and continued:
        yield FieldProblem(
            "continue_frames", f"Continue frames ({continued}) must be fewer than Frames ({frames}), or none is new."
        )
    taken = dict.fromkeys(range(min(continued, frames)), "Continue from")
    wanted = [("first_frame", 0, "First frame")] if request.first_frame.strip() else []
    wanted += [("last_frame", frames - 1, "Last frame")] if request.last_frame.strip() else []
    for anchor in anchors_in(request.anchors):
        try:
            wanted.append(("anchors", anchor.frame(frames=frames, fps=fps), f"the anchor at {anchor.where}"))
        except RequestError as error:
            yield from error.problems
    for field, frame, who in wanted:
        if frame in taken:
            yield FieldProblem(field, f"{taken[frame]} and {who} both say what frame {frame} shows: leave one out.")
        taken[frame] = who


def _seconds(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.3g} s"
    return f"{int(seconds // 3600)}:{int(seconds // 60 % 60):02}:{int(seconds % 60):02}"
