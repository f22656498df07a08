"""For every test: the tab in Chromium, in a stand-in for each WebUI, on that WebUI's own gradio."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import chromium
import environments
import pytest
from servers import Server, serving


@pytest.fixture(scope="session", params=environments.HOSTS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    started = chromium.start(tmp_path_factory.mktemp("profile"))
    yield started
    started.quit()


@pytest.fixture
def page(chrome: Any, server: Server) -> Iterator[chromium.Page]:
    """The tab, just opened. A test whose page or server complains has failed."""
    chrome.set_window_size(*chromium.DESKTOP)
    opened = chromium.Page(chrome, server.url)
    opened.open()
    opened.errors()
    complaints = len(server.complaints())
    yield opened
    with contextlib.suppress(Exception):
        chromium.until(lambda: not server.look()["state"]["job"], what="the server is idle")
    assert not opened.errors()
    assert not server.complaints()[complaints:]
