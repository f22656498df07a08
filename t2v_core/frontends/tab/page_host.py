"""The host as a page's visitors have it: files that they name are their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from t2v_core.frontends.page.files import Files
from t2v_core.frontends.tab.gradio_versions import upload_folder
from t2v_core.frontends.tab.page_surroundings import visitor
from t2v_core.host import Host, Upscaler


class PageHost:
    """Another host, whose pictures and videos come from uploads and from what the visitor's own runs have made.

    On a page that `is_local` there is one visitor, who may also take what the host itself allows: all that was ever
    made here. An upload's folder is named after its content, so that nobody can guess another's.
    """

    def __init__(self, host: Host, files: Files, *, is_local: bool) -> None:
        self._host, self._files, self._is_local = host, files, is_local

    @property
    def models_folders(self) -> Sequence[Path]:
        """The host's."""
        return self._host.models_folders

    @property
    def output_folder(self) -> Path:
        """The host's."""
        return self._host.output_folder

    @property
    def input_folders(self) -> Sequence[Path]:
        """Of the visitor for whom this thread works."""
        more = self._host.input_folders or () if self._is_local else ()
        return (upload_folder(), *more, *self._files.of(visitor()))

    @property
    def wildcard_folders(self) -> Sequence[Path]:
        """The host's."""
        return self._host.wildcard_folders

    def device(self) -> str:
        """The host's."""
        return self._host.device()

    def borrow_device(self) -> AbstractContextManager[None]:
        """The host's."""
        return self._host.borrow_device()

    def upscalers(self) -> Mapping[str, Upscaler]:
        """The host's."""
        return self._host.upscalers()
