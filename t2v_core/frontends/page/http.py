"""The little of HTTP that the gate answers by itself: texts, JSON, redirects, and files that players ask parts of."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

CHUNK = 256 * 1024
LARGEST_FORM = 16 * 1024
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request to the gate: the path behind the page's own, what stands behind the question mark, and who asks."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    visitor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response; `file` is sent instead of `body`, in parts if the browser asks for a part."""

    status: int = 200
    body: bytes = b""
    kind: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None


def text(message: str, *, status: int = 200) -> Answer:
    """A line of plain text."""
    return Answer(status=status, body=message.encode())


def as_json(value: Any) -> Answer:
    """JSON that no cache keeps."""
    return Answer(body=json.dumps(value).encode(), kind="application/json", headers={"cache-control": "no-store"})


def headers_of(scope: Scope) -> dict[str, str]:
    """The headers by their name in small letters; the last one of each name."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def query_of(scope: Scope) -> dict[str, str]:
    """The first value of each name behind the question mark."""
    return {name: values[0] for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()}


def cookies_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The cookies by name."""
    pairs = (pair.partition("=") for pair in headers.get("cookie", "").split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs}


async def form_of(receive: Receive) -> dict[str, str]:
    """The fields of a form; none if it's too large."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False) and len(body) <= LARGEST_FORM
    if len(body) > LARGEST_FORM:
        return {}
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


async def send_answer(answer: Answer, asked: Mapping[str, str], send: Send, *, is_head: bool = False) -> None:
    """Send it; `asked` are the request's headers, which may want a part of a file."""
    if answer.file is not None:
        await _send_file(answer, asked, send, is_head=is_head)
        return
    await _start(answer, send, status=answer.status, length=len(answer.body))
    await send({"type": "http.response.body", "body": b"" if is_head else answer.body})


async def _start(answer: Answer, send: Send, *, status: int, length: int, **more: str) -> None:
    headers = {
        "content-type": answer.kind,
        "content-length": str(length),
        "x-content-type-options": "nosniff",
        **answer.headers,
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})


async def _send_file(answer: Answer, asked: Mapping[str, str], send: Send, *, is_head: bool) -> None:
    assert answer.file is not None
    with answer.file.open("rb") as file:
        size = file.seek(0, 2)
        part = _part(asked.get("range", ""), size)
        first, last = part or (0, size - 1)
        if first > last and size:
            await _start(answer, send, status=416, length=0, content_range=f"bytes */{size}")
            await send({"type": "http.response.body", "body": b""})
            return
        ranged = {"content_range": f"bytes {first}-{last}/{size}"} if part else {}
        length = last - first + 1
        await _start(answer, send, status=206 if part else 200, length=length, accept_ranges="bytes", **ranged)
        if not is_head:
            await _send_part(file, send, first=first, length=length)
        await send({"type": "http.response.body", "body": b""})


async def _send_part(file: BinaryIO, send: Send, *, first: int, length: int) -> None:
    file.seek(first)
    while length > 0:
        chunk = await asyncio.to_thread(file.read, min(CHUNK, length))
        if not chunk:
            return
        length -= len(chunk)
        await send({"type": "http.response.body", "body": chunk, "more_body": True})


def _part(header: str, size: int) -> tuple[int, int] | None:
    """The first and the last byte that a Range header wants; the first is beyond the last if there are none."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return max(0, size - int(match[2])), size - 1
    first = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    return (first, last) if first <= last else (1, 0)
