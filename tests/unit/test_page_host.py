"""Which files a page's visitors may name: their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2v_core.errors import RequestError
from t2v_core.frontends.page.files import Files
from t2v_core.rendering.inputs import check_inputs
from t2v_core.request import GenerationRequest

page_host = pytest.importorskip("t2v_core.frontends.tab.page_host")


def may(host, path: Path) -> bool:
    try:
        check_inputs(GenerationRequest(source=str(path)), host.input_folders)
    except RequestError:
        return False
    return True


@pytest.mark.parametrize("is_local", [True, False])
def test_uploads_and_own_clips_may_be_named_and_nothing_else(host, tmp_path: Path, monkeypatch, is_local: bool):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    monkeypatch.setattr(page_host, "visitor", lambda: "ann")
    host.input_folders = (tmp_path / "outputs",)
    files = Files()
    mine, others = tmp_path / "outputs" / "1.mp4", tmp_path / "outputs" / "2.mp4"
    files.publish(mine, owner="ann")
    files.publish(others, owner="bob")
    page = page_host.PageHost(host, files, is_local=is_local)
    assert may(page, tmp_path / "uploads" / "abc" / "a.png")
    assert may(page, mine)
    assert may(page, others) == is_local
    assert not may(page, tmp_path / "models" / "a.png")
    assert not may(page, Path("/etc/passwd"))
    assert not may(page, tmp_path / "uploads" / ".." / "secret.png")


def test_the_command_line_may_name_anything():
    from t2v_core.hosts.standalone import StandaloneHost

    assert StandaloneHost().input_folders is None
