"""What is asked of a model hub: which files a repository has, and their bytes.

The only place that knows huggingface_hub, whose sessions are those of requests before its version 1 and of httpx since.
No token is sent: what can be downloaded is public, and an old token is refused where none isn't.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from t2v_core.errors import DownloadError
from t2v_core.models.downloadable import HUB

logger = logging.getLogger(__name__)

BLOCK = 128 * 1024
"""Bytes at a time: little enough that a slow line is noticed, and stopped, within a second or two."""

TIMEOUT = 15.0
"""Seconds without a byte after which a connection counts as lost."""

GOES_ON = "What has come is kept: start it again, and it goes on from there."
_BUSY = {408, 425, 429}


class ConnectionLostError(DownloadError):
    """The hub can't be reached now, or a transfer was cut: worth another try."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository at one commit. `digest` is of `kind` "sha256", or "git" for small files."""

    repository: str
    name: str
    url: str
    size: int
    kind: str
    digest: str

    def new_hash(self) -> Any:
        """The hash to feed its bytes to; its hexdigest is to be `digest`."""
        if self.kind == "sha256":
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)


def endpoint() -> str:
    """The address of the hub, or of the mirror that HF_ENDPOINT names.

    Raises:
        DownloadError: HF_ENDPOINT is no address of a web site.
    """
    address = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or f"https://{HUB}"
    parts = urlsplit(address)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.query or parts.fragment:
        raise DownloadError(
            f"HF_ENDPOINT is {address!r}, which is no web address.", remedy=f"Unset it, or write https://{HUB}."
        )
    return address


def list_files(repository: str) -> dict[str, RemoteFile]:
    """All files of a repository's newest commit that the hub tells size and hash of, by name.

    Raises:
        DownloadError: it can't be reached, or doesn't know the repository.
    """
    from huggingface_hub import HfApi, hf_hub_url

    address = endpoint()
    with _explained(repository):
        info = HfApi(endpoint=address, token=False).model_info(repository, files_metadata=True, timeout=TIMEOUT)
        files = {}
        for entry in info.siblings or ():
            kind, digest = ("sha256", entry.lfs.sha256) if entry.lfs else ("git", entry.blob_id)
            if entry.size is None or not digest:
                continue
            url = hf_hub_url(repository, entry.rfilename, revision=info.sha, endpoint=address)
            files[entry.rfilename] = RemoteFile(
                repository, entry.rfilename, url, int(entry.size), kind, str(digest).lower()
            )
    return files


def read_blocks(file: RemoteFile, *, start: int) -> Generator[tuple[int, bytes], None, None]:
    """A file's bytes from `start` on, each block with its place; from 0 where the server can't begin elsewhere.

    Raises:
        ConnectionLostError: the transfer was cut, or ended too early.
        DownloadError: the hub refuses it.
    """
    with _explained(file.repository), _response(file.url, start=start) as (response, blocks):
        place = _first_byte(response) if response.status_code == 206 else 0
        for block in blocks:
            yield place, block
            place += len(block)
    if place < file.size:
        raise _lost(file.repository, f"{file.name} ended after {place:,} of {file.size:,} bytes")


@contextlib.contextmanager
def _response(url: str, *, start: int) -> Iterator[tuple[Any, Iterator[bytes]]]:
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    headers = {**build_hf_headers(token=False), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    session: Any = get_session()
    if callable(getattr(session, "stream", None)):  # httpx
        opened = session.stream("GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True)
    else:
        opened = session.get(url, headers=headers, timeout=TIMEOUT, stream=True)
    with opened as response:
        hf_raise_for_status(response)
        read = getattr(response, "iter_bytes", None) or response.iter_content
        yield response, read(BLOCK)


def _first_byte(response: Any) -> int:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if match is None:
        raise ValueError("a part was sent that doesn't say which")
    return int(match[1])


@contextlib.contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Whatever can go wrong in a network, in whichever library, becomes one of two errors with a remedy."""
    try:
        yield
    except DownloadError:
        raise
    except Exception as error:
        logger.info("%s: %s: %s", repository, type(error).__name__, error)
        raise _error(error, repository) from error


def _error(error: Exception, repository: str) -> DownloadError:
    from huggingface_hub.errors import OfflineModeIsEnabled

    site = urlsplit(endpoint()).netloc
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, OfflineModeIsEnabled):
        return DownloadError("HF_HUB_OFFLINE is set, so nothing is downloaded.", remedy="Start the program without it.")
    if status in {401, 403, 404}:
        return DownloadError(
            f"{site} doesn't give out {repository} ({status}): it was moved, closed, or isn't on this mirror.",
            remedy="Unset HF_ENDPOINT if it is set. Else download the files in a browser and put them into the "
            "models folder.",
        )
    if status == 416:
        return DownloadError(f"{site} has another file than it announced.", remedy="Start it again.")
    if status is not None and status < 500 and status not in _BUSY:
        return DownloadError(f"{site} refuses: {status}.", remedy="Try again later, or set HF_ENDPOINT to a mirror.")
    return _lost(repository, f"it answers {status}" if status else type(error).__name__)


def _lost(repository: str, why: str) -> ConnectionLostError:
    site = urlsplit(endpoint()).netloc
    return ConnectionLostError(
        f"{site} can't be reached, or the transfer of {repository} was cut ({why}).",
        remedy="Check the network; behind a proxy set HTTPS_PROXY, and where the hub is blocked set HF_ENDPOINT "
        f"to a mirror's address. {GOES_ON}",
    )
