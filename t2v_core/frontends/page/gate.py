"""Before every request to the page: who asks, may they, and is it for the gate itself; an ASGI middleware."""

from __future__ import annotations

import asyncio
import html
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from t2v_core.frontends.page.http import (
    Answer,
    Asked,
    Receive,
    Scope,
    Send,
    as_json,
    cookies_of,
    form_of,
    headers_of,
    query_of,
    send_answer,
    text,
)
from t2v_core.frontends.page.logins import Visitors, is_loopback

logger = logging.getLogger(__name__)

PREFIX = "/txt2video/"
"""The paths that the gate answers by itself begin so."""

VISITOR_HEADER = "x-txt2video-visitor"
"""In this header the gate tells the page who asks; what a browser writes there is thrown away."""

ANYBODY = "anybody"
"""The visitor without a cookie, where no login is needed: a program that uses the page, not a browser."""

STARTUP = "/gradio_api/startup-events"
ANSWERS = "/queue/data"
"""Behind this path, gradio's page waits for the results of its events."""

MANIFEST = "/manifest.json"
"""Browsers ask for it without their cookies, and complain on the console if they get none; there's nothing in it."""

WRONG_LOGIN_COSTS = 1.0  # seconds
COOKIE_AGE = 30 * 24 * 3600  # seconds
_SAFE = ("GET", "HEAD", "OPTIONS")

Route = Callable[[Asked], Awaitable[Answer]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Gate:
    """Nothing of the page behind it is reached without passing `__call__`.

    gradio's own login leaves some of its paths open and knows a page only until it is reloaded. This one closes all,
    and a visitor stays the same visitor as long as the browser keeps its cookie.
    """

    def __init__(
        self, app: App, *, visitors: Visitors, routes: Mapping[str, Route], port: int, root_path: str = ""
    ) -> None:
        self._app = app
        self._visitors = visitors
        self._routes = routes
        self._name = f"txt2video-{port}"  # browsers tell servers of one machine apart by nothing but the cookie's name
        self._root = root_path.rstrip("/")
        self._slow = asyncio.Semaphore(8)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse, or hand on to the page."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = headers_of(scope)
        visitor = self._visitors.name(cookies_of(headers).get(self._name, ""))
        answer = await self._before_visitors(scope, headers, receive)
        if answer is None and visitor is None:
            if self._path(scope) == STARTUP and _is_from_here(scope):
                visitor = "server"
            elif self._visitors.need_login:
                answer = self._refused(scope, headers)
            else:
                visitor, send = self._welcomed(scope, headers, send)
        if answer is None and self._path(scope).startswith(PREFIX):
            answer = await self._own(scope, headers, str(visitor))
        if answer is not None:
            await send_answer(answer, headers, send, is_head=scope["method"] == "HEAD")
            return
        await self._hand_on(scope, receive, send, visitor=str(visitor))

    async def _before_visitors(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Answer | None:
        """What is answered whoever asks."""
        path = self._path(scope)
        if _is_foreign(scope, headers) or not self._is_named_here(headers):
            return text("This request comes from another site.", status=403)
        if path == "/login" and self._visitors.need_login:
            return await self._login(scope, headers, receive)
        if path == "/logout":
            self._visitors.leave(cookies_of(headers).get(self._name, ""))
            return self._to_page(self._cookie(headers, "", age=0))
        return as_json({"name": "txt2video"}) if path == MANIFEST else None

    def _welcomed(self, scope: Scope, headers: Mapping[str, str], send: Send) -> tuple[str, Send]:
        """Where no login is needed: a new visitor, once a browser opens the page and gets a cookie."""
        if self._path(scope) != "/":
            return ANYBODY, send
        secret = self._visitors.enter()
        return str(self._visitors.name(secret)), _with_cookie(self._cookie(headers, secret), send)

    async def _hand_on(self, scope: Scope, receive: Receive, send: Send, *, visitor: str) -> None:
        name = VISITOR_HEADER.encode()
        kept = [pair for pair in scope["headers"] if pair[0].lower() != name]
        try:
            await self._app({**scope, "headers": [*kept, (name, visitor.encode())]}, receive, send)
        except (KeyError, RuntimeError):
            # gradio raises in the middle of an answer when a page was left that waited for it, and when it has
            # forgotten the page before the connection ended; nobody is there to see.
            if not self._path(scope).endswith(ANSWERS):
                raise
            logger.debug("A page was left", exc_info=True)

    def _path(self, scope: Scope) -> str:
        """The path behind the root path, which some proxies leave in and some take away."""
        path: str = scope["path"]
        if self._root and path.startswith(f"{self._root}/"):
            return path[len(self._root) :]
        return path

    async def _own(self, scope: Scope, headers: Mapping[str, str], visitor: str) -> Answer:
        name, _, rest = self._path(scope).removeprefix(PREFIX).partition("/")
        route = self._routes.get(f"{scope['method'].replace('HEAD', 'GET')} {name}")
        if route is None:
            return text("There is nothing here.", status=404)
        return await route(Asked(path=rest, query=query_of(scope), headers=headers, visitor=visitor))

    def _refused(self, scope: Scope, headers: Mapping[str, str]) -> Answer:
        """The way to the login for who opens the page, a plain refusal for everything else."""
        opens_page = scope["method"] in _SAFE and self._path(scope) == "/"
        if opens_page and "text/html" in headers.get("accept", ""):
            return Answer(status=303, headers={"location": f"{self._root}/login", "cache-control": "no-store"})
        return text("Log in first.", status=401)

    def _is_named_here(self, headers: Mapping[str, str]) -> bool:
        """Whether the browser believes to be at this machine, where that is all that protects the page.

        A page of another site could else have its own name point here, and then read everything. Behind a proxy, which
        a root path tells of, the name is the proxy's.
        """
        if self._visitors.need_login or self._root:
            return True
        return is_loopback(urlsplit(f"//{headers.get('host', '')}").hostname or "")

    async def _login(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Answer:
        if scope["method"] != "POST":
            return _login_page()
        form = await form_of(receive)
        if self._visitors.is_right(form.get("username", ""), form.get("password", "")):
            return self._to_page(self._cookie(headers, self._visitors.enter()))
        async with self._slow:  # at most so many wrong guesses at once, whoever makes them
            await asyncio.sleep(WRONG_LOGIN_COSTS)
        return _login_page("The name or the password is wrong.", status=401)

    def _to_page(self, cookie: str) -> Answer:
        return Answer(status=303, headers={"location": f"{self._root}/", "set-cookie": cookie})

    def _cookie(self, headers: Mapping[str, str], secret: str, *, age: int = COOKIE_AGE) -> str:
        secure = "; Secure" if headers.get("x-forwarded-proto") == "https" else ""
        path = self._root or "/"
        return f"{self._name}={secret}; Path={path}; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"


def _with_cookie(cookie: str, send: Send) -> Send:
    """The same `send`, with one more header."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"set-cookie", cookie.encode("latin-1"))]}
        await send(message)

    return sending


def _login_page(problem: str = "", *, status: int = 200) -> Answer:
    page = resources.files("t2v_core.frontends.page").joinpath("login.html").read_text(encoding="utf-8")
    body = page.replace("{problem}", html.escape(problem)).encode()
    return Answer(status=status, body=body, kind="text/html; charset=utf-8", headers={"cache-control": "no-store"})


def _is_foreign(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Whether another site's page sends it in the visitor's name; only what changes something matters."""
    origin = headers.get("origin", "")
    if scope["method"] in _SAFE or not origin:
        return False
    here = {headers.get("host"), headers.get("x-forwarded-host")}
    return (urlsplit(origin).netloc or None) not in here - {None}


def _is_from_here(scope: Scope) -> bool:
    """Whether the request comes from this machine."""
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
