"""A model hub on this machine: tells its files with sizes and hashes, and sends them, redirects and ranges included."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """The files of one repository, small ones as git keeps them; and what is to go wrong."""

    repository: str
    files: dict[str, bytes]
    cuts: list[int] = field(default_factory=list)
    """For each of the next transfers of a large file, after how many bytes the connection is cut."""
    sends: dict[str, bytes] = field(default_factory=dict)
    """What is sent instead of what was announced."""
    knows_ranges: bool = True
    status: int = 200
    """Of the answer to all questions."""
    pause: float = 0.0
    """Seconds between two pieces of a large file."""
    requests: list[tuple[str, str, str, str]] = field(default_factory=list)
    """Method, path, Range and Authorization of each request."""
    address: str = ""

    def is_large(self, name: str) -> bool:
        return not name.endswith((".json", ".txt"))

    def siblings(self) -> list[dict]:
        rows = []
        for name, data in self.files.items():
            row = {"rfilename": name, "size": len(data), "blobId": git_hash(data)}
            if self.is_large(name):
                digest = hashlib.sha256(data).hexdigest()
                row["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 135}
            rows.append(row)
        return rows

    def gets(self, name: str) -> list[str]:
        """The Range of each request for a large file's content."""
        return [part for method, path, part, _ in self.requests if method == "GET" and path == f"/content/{name}"]


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub answers at `hub.address` until the block ends."""

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        hub, path = self.hub, self.path.partition("?")[0]
        part, token = self.headers.get("Range", ""), self.headers.get("Authorization", "")
        hub.requests.append((self.command, path, part, token))
        root = f"/{hub.repository}/resolve/{COMMIT}/"
        if hub.status != 200:
            self.send(hub.status, json.dumps({"error": "no"}).encode())
        elif path == f"/api/models/{hub.repository}":
            document = {"id": hub.repository, "modelId": hub.repository, "sha": COMMIT, "siblings": hub.siblings()}
            self.send(200, json.dumps(document).encode())
        elif path.startswith(root) and (name := path.removeprefix(root)) in hub.files:
            data = hub.files[name]
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{git_hash(data)}"'}
            if hub.is_large(name):
                headers["X-Linked-Size"] = str(len(data))
                headers["X-Linked-ETag"] = f'"{hashlib.sha256(data).hexdigest()}"'
                self.send(302, b"", {**headers, "Location": f"{hub.address}/content/{name}"})
            else:
                self.send(200, hub.sends.get(name, data), headers)
        elif path.startswith("/content/"):
            name = path.removeprefix("/content/")
            self.send_content(hub.sends.get(name, hub.files[name]), part)
        else:
            self.send(404, b'{"error": "not found"}')

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def send_content(self, data: bytes, part: str):
        start = int(part.removeprefix("bytes=").rstrip("-")) if part and self.hub.knows_ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        rest = data[start:]
        cut = self.hub.cuts.pop(0) if self.hub.cuts else None
        try:
            for place in range(0, len(rest[:cut]), 65536):
                self.wfile.write(rest[:cut][place : place + 65536])
                time.sleep(self.hub.pause)
        except OSError:  # the client went away
            pass
        if cut is not None:
            self.close_connection = True
