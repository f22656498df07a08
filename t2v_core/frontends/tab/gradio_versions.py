"""Every difference between the versions of gradio that we run on, 3.41 to 6, in one place."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import gradio as gr

Radio, Slider = gr.Radio, gr.Slider
"""For the WebUI's own Settings, so that nobody else has to import gradio."""

MAJOR = int(gr.__version__.split(".")[0])

_SCRIPT = "_js" if MAJOR < 4 else "js"


def script(function: str, *, inputs: int = 0) -> dict[str, str]:
    """The keyword of an event that calls a JavaScript function before the Python one, and hands its result on.

    gradio gives a script the outputs' values behind those of the inputs, and some versions warn when they come back.
    """
    return {_SCRIPT: f"(...values) => ({function})(...values.slice(0, {inputs}))"}


def update(**properties: Any) -> Any:
    """A change of a component's properties, as the result of an event."""
    return gr.update(**properties)


def unchanged() -> Any:
    """The result of an event that leaves a component as it is."""
    return gr.update()


def file_url(path: str) -> str:
    """Where the page finds a file that the server may serve; relative, so that a subpath doesn't matter."""
    return f"{'file=' if MAJOR < 5 else 'gradio_api/file='}{quote(path, safe='/:')}"


def send_button(label: str, *, elem_id: str) -> Any:
    """A plain button, for a row of another tab."""
    return gr.Button(label, elem_id=elem_id)
