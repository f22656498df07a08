"""What the tab shows as HTML: the player, a recipe, what went wrong; every text in it is escaped."""

from __future__ import annotations

import base64
import html
import io
import json
import platform
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from t2v_core import __version__
from t2v_core.errors import OutOfMemoryError, RequestError, Txt2VideoError
from t2v_core.frontends.tab.picking import Pickable, pickable_of
from t2v_core.frontends.tab.shelf import Clip
from t2v_core.frontends.words import forecast as in_words
from t2v_core.infotext import parse_infotext
from t2v_core.media import Shown, shown_as
from t2v_core.media.source import source_facts
from t2v_core.rendering.forecast import Forecast
from t2v_core.request import FIELDS
from t2v_core.video import Frames

POSTER_SIDE = 160
"""Longest side of a clip's thumbnail in pixels."""


def player(clips: Sequence[Clip], *, urls: Mapping[Path, str]) -> str:
    """The clips side by side, playing in step, with their controls, which `javascript/txt2video.js` moves.

    `urls` are where the page finds their files; folders have none.
    """
    if not clips:
        return ""
    cards = "".join(_card(clip, urls) for clip in clips)
    frames = max(_length(clip)[0] for clip in clips)
    return (
        f'<div class="txt2video-player" data-many="{int(len(clips) > 1)}">'
        f'<div class="txt2video-stage">{cards}</div>'
        '<div class="txt2video-controls">'
        '<button type="button" data-do="previous" title="Previous frame (,)">⏮</button>'
        '<button type="button" data-do="play" title="Play or pause (space)">⏸</button>'
        '<button type="button" data-do="next" title="Next frame (.)">⏭</button>'
        f'<input type="range" min="0" max="{frames - 1}" step="1" value="0" aria-label="Frame">'
        '<output class="txt2video-frame">1</output>'
        '<button type="button" data-do="loop" class="on" title="Play again and again">🔁</button>'
        '<button type="button" data-do="full" title="Full screen">⤢</button>'
        "</div></div>"
    )


def _card(clip: Clip, urls: Mapping[Path, str]) -> str:
    values = parse_infotext(clip.infotext).values
    shown = clip.shown or clip.path
    frames, fps = _length(clip)
    data = {"key": clip.key, "fps": f"{fps:.6g}", "frames": frames, "seed": values.get("seed")}
    data["file"] = urls.get(shown, "")
    facts = " ".join(f'data-{name}="{html.escape(str(value))}"' for name, value in data.items())
    partial = " · stopped early" if clip.partial else ""
    others = ", ".join(_link(path, urls) for path in clip.paths if path != shown)
    also = f" · also {others}" if others else ""
    picks = "".join(map(_pick, pickable_of(values)))
    sheet = " txt2video-sheet" if clip.is_sheet else ""
    return (
        f'<figure class="txt2video-clip thumbnail-item{sheet}" tabindex="0" {facts} '
        f'data-info="{html.escape(clip.infotext)}"><img alt="" hidden src="{clip.poster}">'
        f'<div class="txt2video-film"><video muted loop autoplay playsinline {_played(clip, urls)}></video>'
        f"{picks}</div>{_PICKED if picks else ''}"
        f"<figcaption>{html.escape(shown.name)}{partial}{also}</figcaption></figure>"
    )


def _length(clip: Clip) -> tuple[int, float]:
    """Frames and rate of the file that is shown, which may have more than the model made."""
    try:
        facts = source_facts(clip.shown or clip.path)
    except Txt2VideoError:
        facts = None
    if facts is not None and not facts.is_still:
        return facts.frames, facts.fps
    values = parse_infotext(clip.infotext).values
    return int(values.get("frames") or 1), float(values.get("fps") or 8)


_PICKED = '<button type="button" class="txt2video-render-picked" disabled>Render picked</button>'


def _pick(draft: Pickable) -> str:
    """A draft's place on its sheet as a button."""
    sides = {"left": draft.left, "top": draft.top, "width": draft.width, "height": draft.height}
    style = "".join(f"{side}:{100 * share:.3f}%;" for side, share in sides.items())
    return (
        f'<button type="button" class="txt2video-pick" data-number="{draft.number}" aria-pressed="false" '
        f'style="{style}" title="Pick draft {draft.number}, seed {draft.seed}"></button>'
    )


def _played(clip: Clip, urls: Mapping[Path, str]) -> str:
    """What the player's element shows: a film, a picture that moves by itself, or else the first frame."""
    path = clip.shown or clip.path
    if shown_as(path) is Shown.VIDEO:
        return f'preload="auto" src="{html.escape(urls.get(path, ""))}"'
    picture = urls.get(path, "") if shown_as(path) is Shown.PICTURE else ""
    return f'preload="none" poster="{html.escape(picture or clip.poster)}"'


def _link(path: Path, urls: Mapping[Path, str]) -> str:
    name = html.escape(path.name)
    return f'<a href="{html.escape(urls[path])}" download="{name}">{name}</a>' if path in urls else name


def poster_of(frame: Frames, *, side: int = POSTER_SIDE) -> str:
    """A picture of one frame (h, w, 3), no longer than `side` pixels, as a data URL."""
    picture = Image.fromarray(frame)
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def recipe(infotext: str) -> str:
    """A recipe as the WebUI shows it, line by line."""
    return "<p>" + "<br>\n".join(html.escape(line) for line in infotext.split("\n")) + "</p>"


def forecast(told: Forecast) -> str:
    """What a request will take, in one line."""
    return f"<p>{html.escape(in_words(told))}</p>"


def box(content: str, *, fields: Sequence[str] = (), findings: Sequence[str] = ()) -> str:
    """A red box around HTML and a list of further findings as HTML; the page marks the fields that it names."""
    marks = f' data-fields="{html.escape(json.dumps(list(fields)))}"' if fields else ""
    lines = "".join(f"<li>{finding}</li>" for finding in findings)
    return f'<div class="txt2video-problem" role="alert"{marks}>{content}{lines and f"<ul>{lines}</ul>"}</div>'


def notices(messages: Sequence[str]) -> str:
    """What a run had to say beside its result."""
    return "".join(f'<p class="txt2video-notice">{html.escape(message)}</p>' for message in messages)


def problem(error: BaseException, *, request: object = None, surroundings: str = "") -> str:
    """What went wrong and what to do about it; the page marks the fields that it names.

    An error that isn't the user's to mend comes with a report to copy, which holds versions, request and traceback.
    """
    if isinstance(error, RequestError):
        findings = [html.escape(problem.message) for problem in error.problems]
        return box("", fields=[problem.field for problem in error.problems], findings=findings)
    if isinstance(error, Txt2VideoError):
        remedy = f"<p>{html.escape(error.remedy)}</p>" if error.remedy else ""
        offer = _offer(error.lower) if isinstance(error, OutOfMemoryError) else ""
        return box(f"<p>{html.escape(error.problem)}</p>{remedy}{offer}")
    what = html.escape(f"{type(error).__name__}: {error}".strip(": "))
    text = html.escape(report(error, request=request, surroundings=surroundings))
    return box(
        f"<p>Something went wrong that should not: {what}</p><p>Please open an issue with the report below.</p>"
        '<button type="button" class="txt2video-copy">Copy report</button>'
        f'<details><summary>Report</summary><pre class="txt2video-report">{text}</pre></details>'
    )


def _offer(lower: Mapping[str, int | bool]) -> str:
    """A button that sets fields to values with which a run may fit into memory."""
    if not lower:
        return ""
    words = ", ".join(f"{FIELDS[name].spec.label} {'on' if value is True else value}" for name, value in lower.items())
    values = html.escape(json.dumps(lower))
    return f'<button type="button" class="txt2video-lower" data-values="{values}">Set {html.escape(words)}</button>'


def report(error: BaseException, *, request: object, surroundings: str) -> str:
    """All that an issue needs: versions, where it ran, what was asked, and the traceback."""
    import torch

    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return "\n".join(
        [
            f"txt2video {__version__} in {surroundings}",
            f"Python {platform.python_version()} on {platform.platform()}, torch {torch.__version__}",
            f"Request: {request!r}",
            "",
            trace,
        ]
    )
