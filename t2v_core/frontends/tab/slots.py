"""The places in the tab that take a picture or a video: what each shows, and what the files in them mean for a clip."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping

from t2v_core.errors import RequestError, Txt2VideoError
from t2v_core.frontends.tab.pages import poster_of
from t2v_core.host import Host
from t2v_core.media.placing import STRETCH
from t2v_core.media.source import SourceFacts, Wanted, read_source
from t2v_core.models.catalogue import find_model
from t2v_core.rendering.inputs import Named, check_inputs, path_of
from t2v_core.rendering.source_size import facts_of, fill_from_source
from t2v_core.request import FIELDS, GenerationRequest
from t2v_core.video import Frames

INVITATIONS = {
    "source": "Drop a picture or a video, or click",
    "mask": "Drop a picture or a video, or draw",
    "first_frame": "Drop a picture, or click",
    "last_frame": "Drop a picture, or click",
    "continue_from": "Drop a clip, or click",
}
"""The fields with a place of their own, and what it says while it's empty."""

SIZED = ("width", "height", "frames", "fps")
"""The fields that take the size and the time of what is given."""

THUMBNAIL_SIDE = 128


def slot(name: str, text: str, host: Host) -> str:
    """The place of a field as HTML, with the file that `text` names, or why it can't be had."""
    picture, facts, trouble = "", "", ""
    if text.strip():
        try:
            named = allowed(name, text, host)
            picture, facts = _shown(named)
        except RequestError as error:
            trouble = error.problems[0].message
        except Txt2VideoError as error:
            trouble = str(error)
    path = path_of(text)
    trouble = trouble.removeprefix(f"{FIELDS[name].spec.label}: ")
    trouble = trouble.replace(str(path), path.name)  # of an upload the folder says nothing
    said = " · ".join(filter(None, (path.name, facts))) if text.strip() else INVITATIONS[name]
    kind = "filled" if text.strip() else "empty"
    image = f'<img alt="" src="{picture}">' if picture else f'<span aria-hidden="true">{_SYMBOLS[name]}</span>'
    label, help = (html.escape(text) for text in (FIELDS[name].spec.label, FIELDS[name].spec.help))
    draw = '<button type="button" data-do="draw" title="Draw a mask on the source">Draw</button>'
    return (
        f'<div class="txt2video-slot" data-slot="{name}" data-state="{"wrong" if trouble else kind}">'
        f'<button type="button" class="txt2video-choose" data-do="choose" title="{help}">'
        f"{image}<span><b>{label}</b>"
        f"<small>{html.escape(trouble or said)}</small></span></button>"
        f"{draw if name == 'mask' else _TAKE[name]}"
        '<button type="button" data-do="clear" title="Empty this place">✕</button></div>'
    )


_SYMBOLS = {"source": "🎞️", "mask": "🖌️", "first_frame": "⏮", "last_frame": "⏭", "continue_from": "⏩"}
_TAKE = {
    name: f'<button type="button" data-do="take" title="Take {what} of the player">↙️</button>'
    for name, what in (
        ("source", "the chosen clip"),
        ("continue_from", "the chosen clip"),
        ("first_frame", "the frame that is shown"),
        ("last_frame", "the frame that is shown"),
    )
}


def allowed(name: str, text: str, host: Host) -> Named:
    """The file that a field names, which a page may read.

    Raises:
        RequestError: it lies elsewhere.
    """
    check_inputs(dataclasses.replace(GenerationRequest(), **{name: text}), host.input_folders)
    return Named(name, text)


def first_picture(named: Named, *, longest_side: int, start: float = 0.0) -> Frames:
    """A picture, or a video's frame at `start` seconds, (h, w, 3), its longer side scaled to that length.

    Raises:
        UnreadableFileError: it isn't there, or isn't one.
    """
    facts = facts_of(named)
    scale = longest_side / max(facts.width, facts.height)
    width, height = (max(1, round(side * scale)) for side in (facts.width, facts.height))
    start = 0.0 if facts.is_still or start >= facts.seconds else start
    wanted = Wanted(frames=1, fps=facts.fps or 1.0, width=width, height=height, fit=STRETCH, start=start)
    return next(iter(read_source(named.path, wanted)))[0]


def sizes_of(files: Mapping[str, str], *, model: str, host: Host) -> dict[str, int | float]:
    """The fields of `SIZED` that the files decide, by the model's own values; `files` are paths by field.

    Nothing of files that can't be read: their places say so.
    """
    named = {name: text for name, text in files.items() if name != "mask"}
    given = dataclasses.replace(GenerationRequest(model=model), **named)
    try:
        check_inputs(given, host.input_folders)
        config = find_model(model, host.models_folders, paths=False).config
        own, multiple = config.defaults, config.vae.downsampling
        try:
            filled = fill_from_source(given, own, multiple=multiple)
        except RequestError:  # a film of more frames than a clip can have: the user says how many
            filled = fill_from_source(given.with_field("frames", own.frames), own, multiple=multiple)
            filled = filled.with_field("frames", None)
    except Txt2VideoError:
        return {}
    found = {name: getattr(filled, name) for name in SIZED}
    return {name: value for name, value in found.items() if value is not None}


def sizes_of_clip(files: Mapping[str, str], *, model: str, host: Host) -> dict[str, int | float]:
    """The same where the source is a clip that was made here, which keeps its size as one that is carried on does."""
    kept = sizes_of({"continue_from": files.get("source", "")}, model=model, host=host)
    sides = {name: kept[name] for name in ("width", "height") if name in kept}
    return {**sizes_of(files, model=model, host=host), **sides}


def _shown(named: Named) -> tuple[str, str]:
    """A small picture of a file as a data URL, and a few words on it."""
    return poster_of(first_picture(named, longest_side=THUMBNAIL_SIDE)), in_words(facts_of(named))


def in_words(facts: SourceFacts) -> str:
    """Size, frames and length."""
    size = f"{facts.width}×{facts.height}"
    if facts.is_still:
        return size
    return f"{size}, {'' if facts.is_counted else 'about '}{facts.frames:,} frames at {facts.fps:.4g} fps"
