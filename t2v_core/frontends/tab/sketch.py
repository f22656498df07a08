"""The window in which a mask is painted on the source's first frame; `javascript/txt2video.js` does the painting."""

from __future__ import annotations

from t2v_core.errors import Txt2VideoError
from t2v_core.frontends.tab.pages import poster_of
from t2v_core.frontends.tab.slots import allowed, first_picture
from t2v_core.host import Host
from t2v_core.request import problem

SIDE = 768
"""Pixels of the longer side of the picture that is painted on: a small source is enlarged to it."""


def window(source: str, start: float, *, mask: str, keeps: bool, host: Host) -> str:
    """The window as HTML, with the mask that there is already painted in it, if it can be read.

    `start` are seconds of the source. What is marked stays if the mask `keeps`, else it changes.

    Raises:
        RequestError: there is no source, or it lies outside the folders that a page may read.
        UnreadableFileError: it can't be read.
    """
    if not source.strip():
        raise problem("source", "Give a source first: the mask is painted on it.")
    ground = first_picture(allowed("source", source, host), longest_side=SIDE, start=start)
    height, width = ground.shape[:2]
    return (
        '<dialog class="txt2video-sketch">'
        f"<p>Paint over what {'stays' if keeps else 'may change'}.</p>"
        '<div class="txt2video-canvas">'
        f'<img alt="" src="{poster_of(ground, side=SIDE)}">'
        f'<canvas width="{width}" height="{height}" data-mask="{_painted(mask, host)}"></canvas></div>'
        '<div class="txt2video-sketch-tools">'
        '<label>Brush <input type="range" min="4" max="200" value="48" data-do="size"></label>'
        '<button type="button" data-do="erase" aria-pressed="false">Eraser</button>'
        '<button type="button" data-do="undo">Undo</button>'
        '<button type="button" data-do="clear">Clear</button>'
        '<span class="txt2video-gap"></span>'
        '<button type="button" data-do="cancel">Cancel</button>'
        '<button type="button" data-do="use" class="txt2video-primary">Use this mask</button>'
        "</div></dialog>"
    )


def _painted(mask: str, host: Host) -> str:
    if not mask.strip():
        return ""
    try:
        return poster_of(first_picture(allowed("mask", mask, host), longest_side=SIDE), side=SIDE)
    except Txt2VideoError:
        return ""
