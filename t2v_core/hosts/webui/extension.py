"""The extension as a whole: which of the WebUI's callbacks it answers, and with what."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modules import paths, script_callbacks

import t2v_core
from t2v_core.frontends.tab.layout import build
from t2v_core.frontends.tab.making import Maker
from t2v_core.frontends.tab.surroundings import TAB_ID
from t2v_core.hosts.webui import settings
from t2v_core.hosts.webui.host import WebUIHost
from t2v_core.hosts.webui.pnginfo import PngInfo
from t2v_core.hosts.webui.surroundings import WebUISurroundings
from t2v_core.models import first_start

if TYPE_CHECKING:
    from t2v_core.rendering.local import LocalRenderer

logger = logging.getLogger(__name__)


def register() -> None:
    """Join the WebUI; to be called from the extension's script, which the WebUI runs again at each reload."""
    png_info = PngInfo()
    _say_if_outdated()

    def on_ui_tabs() -> list[tuple[Any, str, str]]:
        first_start.prepare(Path(paths.models_path))
        surroundings = WebUISurroundings(WebUIHost(), png_info)
        return [(build(surroundings, Maker(surroundings, _renderer)), TAB_ID, TAB_ID)]

    settings.register()
    _answer("after_component", png_info.see)
    _answer("ui_tabs", on_ui_tabs)


def _answer(category: str, callback: Callable[..., Any]) -> None:
    """Register a callback under this file's name.

    The WebUI's `on_…` functions look for that name through the whole stack, a tenth of a second for each of them.
    """
    callbacks = script_callbacks.callback_map[f"callbacks_{category}"]
    script_callbacks.add_callback(callbacks, callback, category=category, filename=__file__)


def _say_if_outdated() -> None:
    """After an update, "Reload UI" runs the new script with the old package, which Python keeps until a restart."""
    source = Path(t2v_core.__file__).read_text(encoding="utf-8")
    on_disk = re.search(r'__version__ = "(.+)"', source)
    if on_disk and on_disk[1] != t2v_core.__version__:
        logger.warning(
            "txt2video %s is installed, but %s is still running: restart the WebUI.", on_disk[1], t2v_core.__version__
        )


@functools.lru_cache(maxsize=1)
def _renderer() -> LocalRenderer:
    """One for the whole process: a reload of the UI doesn't load the model again."""
    from t2v_core.rendering.named import NamedModelsRenderer

    return NamedModelsRenderer(WebUIHost(), rest=settings.rest)
