"""Every difference between the versions of gradio that we run on, 3.41 to 6, in one place."""

from __future__ import annotations

import functools
import inspect
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

CheckboxGroup, Radio, Slider = gr.CheckboxGroup, gr.Radio, gr.Slider
"""For the WebUI's own Settings, so that nobody else has to import gradio."""

MAJOR = int(gr.__version__.split(".")[0])

_SCRIPT = "_js" if MAJOR < 4 else "js"

LOSSLESS: dict[str, Any] = {} if MAJOR < 4 else {"format": "png"}
"""The properties of an image component that hands pictures on as they are; gradio 4 makes them lossy WebP by itself."""


def script(function: str, *, inputs: int = 0) -> dict[str, Any]:
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


def upload_folder() -> Path:
    """Where files that a page uploads lie, as every version of gradio finds it."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio")


def send_button(label: str, *, elem_id: str) -> Any:
    """A plain button, for a row of another tab."""
    return gr.Button(label, elem_id=elem_id)


HIDDEN: Any = "hidden" if MAJOR >= 6 else False
"""For `visible`: not seen, but in the page, so that a script finds it."""


def request_header(name: str) -> str:
    """A header of the request that is being answered; empty where none is."""
    from gradio.context import LocalContext

    request: Any = LocalContext.request.get(None)
    return str(request.headers.get(name, "")) if request is not None else ""


def tool_button(symbol: str, *, elem_id: str, visible: bool = True) -> Any:
    """A small button with one symbol, for a page without the WebUI's own."""
    return gr.Button(symbol, elem_id=elem_id, visible=visible, min_width=42, scale=0, elem_classes=["txt2video-tool"])


def launch(page: Any, *, middleware: Any, head: str, host: str, port: int, root_path: str) -> tuple[int, Any]:
    """Serve a page in threads of its own, with nothing that leaves this machine; its port, and what stops it.

    `middleware` is an ASGI middleware: called with an app, it gives another.

    Raises:
        OSError: the port is taken.
    """
    # gradio asks its own server whether it's there, and a proxy in the environment wouldn't find it.
    direct = {*filter(None, os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")).split(","))}
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(sorted({*direct, "localhost", "127.0.0.1", host}))
    options: dict[str, Any] = {
        "server_name": host, "server_port": port, "root_path": root_path or None, "max_threads": 100,
        "prevent_thread_lock": True, "inbrowser": False, "share": False, "quiet": True, "show_error": True,
        "max_file_size": "200mb", "ssr_mode": False, "pwa": False, "mcp_server": False, "enable_monitoring": False,
        "run_history": False, "footer_links": [], "show_api": False, "head": head,
        "app_kwargs": {"middleware": [(middleware, (), {})]},
    }  # fmt: skip
    if not _known({"head": head}, page.launch):  # until gradio 5
        page.head = head
    page.queue(default_concurrency_limit=None, **_known({"api_open": False}, page.queue))
    page.launch(**_known(options, page.launch))
    return int(page.server_port), functools.partial(page.close, verbose=False)


def _known(options: Mapping[str, Any], function: Any) -> dict[str, Any]:
    """The options that this version's function takes."""
    return {name: value for name, value in options.items() if name in inspect.signature(function).parameters}


def keep_out_of_api(page: Any) -> None:
    """Leave a page's events out of the description of gradio's API, which gradio 4 writes into its login page too.

    That names the models and the presets that are here.
    """
    if MAJOR == 4:
        for event in page.fns.values():
            event.api_name = False


def keep_out_of_ui_config(component: Any) -> None:
    """Don't let the WebUI write this component's first value to ui-config.json, where it would outlive its reason."""
    component.do_not_save_to_config = True
