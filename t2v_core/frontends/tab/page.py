"""The page of its own: the tab on current gradio behind a gate, for people without a WebUI."""

from __future__ import annotations

import functools
import importlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from t2v_core.errors import ServeError
from t2v_core.frontends.page.files import Files
from t2v_core.frontends.page.gate import Gate
from t2v_core.frontends.page.logins import Visitors, check_reachable, is_loopback
from t2v_core.frontends.page.routes import head, routes
from t2v_core.frontends.tab import gradio_versions
from t2v_core.frontends.tab.layout import build
from t2v_core.frontends.tab.making import Maker
from t2v_core.frontends.tab.page_host import PageHost
from t2v_core.frontends.tab.page_surroundings import PageSurroundings, visitor
from t2v_core.frontends.tab.shelf import Shelf
from t2v_core.host import Host
from t2v_core.jobs import Jobs
from t2v_core.rendering.renderer import Renderer

SAVE_WITHIN = 60.0
"""Seconds that a running clip has for saving what it has when the server is stopped."""


@contextmanager
def serving(host: Host, *, listen: str, port: int, logins: Mapping[str, str], root_path: str = "") -> Iterator[int]:
    """Serve the page while the block runs; its port. In the end the running clip is stopped and saved.

    Raises:
        ServeError: strangers could come in, or the port is taken.
    """
    check_reachable(listen, logins)
    jobs, files = Jobs(), Files()
    with tempfile.TemporaryDirectory(prefix="txt2video-page-") as cache:
        os.environ["GRADIO_TEMP_DIR"] = cache  # of gradio's own copies; others on this machine can't look into it
        is_local = is_loopback(listen) and not logins and not root_path
        own = PageHost(host, files, is_local=is_local)
        surroundings = PageSurroundings(own, jobs=jobs, files=files, is_local=is_local)
        maker = Maker(surroundings, lambda: _renderer(own))
        maker.shelf = Shelf(visitor)
        surroundings.shown_again = functools.partial(_shown_again, maker)
        page = build(surroundings, maker)
        page.title = "txt2video"
        gate = functools.partial(
            Gate, visitors=Visitors(logins), routes=routes(jobs, files), port=port, root_path=root_path
        )
        try:
            served, stop = gradio_versions.launch(
                page, middleware=gate, head=head(surroundings.tips), host=listen, port=port, root_path=root_path
            )
        except OSError as error:
            raise ServeError(
                f"Nothing can be served at {listen}, port {port}: {error.strerror or 'the port is taken'}.",
                remedy="Choose another one with --port.",
            ) from error
        # A renderer is slow to import: the first run needn't wait for it, nor the page.
        threading.Thread(target=importlib.import_module, args=("t2v_core.rendering.named",), daemon=True).start()
        try:
            yield served
        finally:
            jobs.close(SAVE_WITHIN)
            stop()


def _renderer(host: Host) -> Renderer:
    from t2v_core.rendering.named import NamedModelsRenderer

    return NamedModelsRenderer(host)


def _shown_again(maker: Maker, keys: str) -> tuple[str, str]:
    clips = maker.shelf.those(json.loads(keys))
    return maker.show(clips), json.dumps([clip.key for clip in clips])
