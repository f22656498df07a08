"""The gate before the page: nothing gets past it without a login, and nobody gets at another's files or runs."""

from __future__ import annotations

import asyncio
import functools
import json
import time

import pytest

from t2v_core.frontends.page import gate as gate_module
from t2v_core.frontends.page.files import Files
from t2v_core.frontends.page.following import Follower
from t2v_core.frontends.page.gate import VISITOR_HEADER, Gate
from t2v_core.frontends.page.http import as_json
from t2v_core.frontends.page.logins import Visitors
from t2v_core.frontends.page.routes import ASSETS, routes
from t2v_core.jobs import Jobs

PORT = 7860
LOGINS = {"ann": "pass-of-ann"}


class Page:
    """What stands behind the gate: says that it was reached, and by whom."""

    async def __call__(self, scope, receive, send):
        values = [value.decode() for name, value in scope["headers"] if name.decode() == VISITOR_HEADER]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-page", b"reached")]})
        await send({"type": "http.response.body", "body": json.dumps(values).encode()})


class Reply:
    def __init__(self, messages) -> None:
        self.status = messages[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        self.body = b"".join(message.get("body", b"") for message in messages[1:])
        self.cookie = self.headers.get("set-cookie", "").partition(";")[0]


class House:
    """A gate with everything behind it, and a way to ask it."""

    def __init__(self, *, logins=None, root_path: str = "") -> None:
        self.jobs, self.files = Jobs(), Files()
        self.visitors = Visitors(logins or {})
        behind = routes(self.jobs, self.files)
        self.gate = Gate(Page(), visitors=self.visitors, routes=behind, port=PORT, root_path=root_path)

    def ask(
        self, path: str, *, method: str = "GET", body: bytes = b"", client: str = "203.0.113.9", **headers
    ) -> Reply:
        path, _, query = path.partition("?")
        given = {"host": "localhost:7860", **{name.replace("_", "-"): value for name, value in headers.items()}}
        scope = {
            "type": "http", "method": method, "path": path, "query_string": query.encode(), "client": (client, 1),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }  # fmt: skip
        messages = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            messages.append(message)

        asyncio.run(self.gate(scope, receive, send))
        return Reply(messages)

    def log_in(self, user: str = "ann", password: str = "pass-of-ann", **headers) -> Reply:
        form = f"username={user}&password={password}".encode()
        return self.ask("/login", method="POST", body=form, **headers)


@pytest.fixture
def house():
    made = House(logins=LOGINS)
    yield made
    made.jobs.close(5)


@pytest.fixture
def open_house():
    made = House()
    yield made
    made.jobs.close(5)


PATHS = [
    "/", "/config", "/gradio_api/info", "/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/file=/etc/passwd",
    "/gradio_api/run-history/records", "/gradio_api/heartbeat/x", "/monitoring/x", "/cancel", "/static/x", "/assets/x",
    "/theme.css", "/gradio_api/startup-events", "/txt2video/progress?task=x", "/txt2video/file/x/y.mp4",
    "/txt2video/assets/page.js", "/login/../config", "//config", "/LOGIN",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE"])
@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_reached_without_a_login(house, path, method):
    reply = house.ask(path, method=method)
    assert "x-page" not in reply.headers
    assert reply.status == 401


def test_who_opens_the_page_is_sent_to_the_login(house):
    reply = house.ask("/", accept="text/html,*/*")
    assert (reply.status, reply.headers["location"]) == (303, "/login")
    page = house.ask("/login")
    assert page.status == 200
    assert b"password" in page.body


def test_a_login_opens_everything_and_a_logout_closes_it(house):
    reply = house.log_in()
    assert (reply.status, reply.headers["location"]) == (303, "/")
    assert "HttpOnly" in reply.headers["set-cookie"]
    assert "SameSite=Lax" in reply.headers["set-cookie"]
    assert "Secure" not in reply.headers["set-cookie"]
    assert house.ask("/config", cookie=reply.cookie).headers["x-page"] == "reached"
    house.ask("/logout", cookie=reply.cookie)
    assert house.ask("/config", cookie=reply.cookie).status == 401
    assert "Secure" in house.log_in(x_forwarded_proto="https").headers["set-cookie"]


@pytest.mark.parametrize(("user", "password"), [("ann", "wrong"), ("bob", "pass-of-ann"), ("", ""), ("ann", "")])
def test_a_wrong_login_costs_time_and_opens_nothing(house, monkeypatch, user, password):
    slept = []
    real = asyncio.sleep
    monkeypatch.setattr(gate_module.asyncio, "sleep", lambda seconds: slept.append(seconds) or real(0))
    reply = house.log_in(user, password)
    assert reply.status == 401
    assert not reply.cookie
    assert slept == [gate_module.WRONG_LOGIN_COSTS]


def test_a_form_as_large_as_an_attack_is_no_login(house, monkeypatch):
    monkeypatch.setattr(gate_module, "WRONG_LOGIN_COSTS", 0)
    assert house.ask("/login", method="POST", body=b"username=ann&password=pass-of-ann&x=" + b"x" * 10**6).status == 401


def test_the_page_is_told_who_asks_and_nobody_can_pretend(house):
    first, second = house.log_in(), house.log_in()
    names = []
    for reply in (first, second):
        told = json.loads(house.ask("/", cookie=reply.cookie, **{VISITOR_HEADER.replace("-", "_"): "eve"}).body)
        assert len(told) == 1
        names += told
    assert "eve" not in names
    assert names[0] != names[1]


def test_without_logins_a_browser_is_a_visitor_from_its_first_page_on(open_house):
    reply = open_house.ask("/")
    assert reply.headers["x-page"] == "reached"
    assert reply.cookie.startswith(f"txt2video-{PORT}=")
    again = open_house.ask("/", cookie=reply.cookie)
    assert again.body == reply.body
    assert not again.cookie


def test_another_sites_page_can_do_nothing_in_the_visitors_name(open_house):
    own, other = "http://localhost:7860", "https://evil.example"
    assert open_house.ask("/gradio_api/queue/join", method="POST", origin=own).headers["x-page"] == "reached"
    assert open_house.ask("/gradio_api/queue/join", method="POST", origin=other).status == 403
    assert open_house.ask("/gradio_api/queue/join", method="POST", origin="null").status == 403


def test_a_name_that_points_here_from_elsewhere_opens_nothing(open_house):
    for host in ("evil.example:7860", "localhost.evil.example"):
        assert open_house.ask("/", host=host).status == 403
    for host in ("localhost:7860", "127.0.0.1:7860", "[::1]:7860"):
        assert open_house.ask("/", host=host).status == 200


def test_a_root_path_is_in_the_redirect_and_the_cookie():
    house = House(logins=LOGINS, root_path="/video")
    assert house.ask("/", accept="text/html").headers["location"] == "/video/login"
    assert house.ask("/video/", accept="text/html").headers["location"] == "/video/login"
    form = b"username=ann&password=pass-of-ann"
    reply = house.ask("/video/login", method="POST", body=form)
    assert reply.headers["location"] == "/video/"
    assert "Path=/video;" in reply.headers["set-cookie"]


def test_only_this_machine_tells_the_server_that_it_has_started(house):
    assert house.ask("/gradio_api/startup-events", client="127.0.0.1").headers["x-page"] == "reached"
    assert house.ask("/gradio_api/startup-events", client="203.0.113.9").status == 401
    assert house.ask("/config", client="127.0.0.1").status == 401


def test_the_manifest_is_for_everybody_and_says_nothing(house):
    reply = house.ask("/manifest.json")
    assert json.loads(reply.body) == {"name": "txt2video"}
    assert "x-page" not in reply.headers


@pytest.mark.parametrize("error", [RuntimeError("response already started"), KeyError("the page's number")])
def test_a_page_that_was_left_is_no_error_and_everything_else_is(open_house, monkeypatch, error):
    async def fail(scope, receive, send):
        await Page()(scope, receive, send)
        raise error

    monkeypatch.setattr(open_house.gate, "_app", fail)
    assert open_house.ask("/gradio_api/queue/data").status == 200
    with pytest.raises(type(error), match=str(error.args[0])):
        open_house.ask("/gradio_api/info")


def test_a_file_is_its_owners_alone(house, tmp_path):
    path = tmp_path / "00000-1 a.mp4"
    path.write_bytes(bytes(range(100)))
    ann, bob = house.log_in(), house.log_in()
    name = house.visitors.name(ann.cookie.partition("=")[2])
    address = "/" + house.files.publish(path, owner=str(name))
    reply = house.ask(address, cookie=ann.cookie)
    assert (reply.status, reply.body) == (200, bytes(range(100)))
    assert reply.headers["content-type"] == "video/mp4"
    assert house.ask(address, cookie=bob.cookie).status == 404
    assert house.ask(address).status == 401
    assert house.ask(f"/txt2video/file/{path}", cookie=ann.cookie).status == 404
    path.unlink()
    assert house.ask(address, cookie=ann.cookie).status == 404


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-9", 206, (0, 9)), ("bytes=90-", 206, (90, 99)), ("bytes=-5", 206, (95, 99)),
        ("bytes=50-900", 206, (50, 99)), ("bytes=200-", 416, (0, -1)), ("bytes=9-3", 416, (0, -1)),
        ("lines=1-2", 200, (0, 99)), ("bytes=-", 200, (0, 99)),
    ],
)  # fmt: skip
def test_a_player_gets_the_part_of_a_file_that_it_asks_for(open_house, tmp_path, wanted, status, part):
    path = tmp_path / "clip.mp4"
    path.write_bytes(bytes(range(100)))
    cookie = open_house.ask("/").cookie
    name = open_house.visitors.name(cookie.partition("=")[2])
    reply = open_house.ask("/" + open_house.files.publish(path, owner=str(name)), cookie=cookie, range=wanted)
    first, last = part
    assert reply.status == status
    assert reply.body == bytes(range(100))[first : last + 1]
    assert int(reply.headers["content-length"]) == len(reply.body)


def test_progress_and_stop_are_for_the_runs_owner(house):
    ann, bob = house.log_in(), house.log_in()
    owner = str(house.visitors.name(ann.cookie.partition("=")[2]))

    def work(run):
        while not run.stop:
            time.sleep(0.01)
        return "kept"

    job = house.jobs.submit("task(1)", owner=owner, work=work, follower=Follower())
    ask = functools.partial(house.ask, "/txt2video/progress?task=task(1)")
    assert json.loads(ask(cookie=ann.cookie).body)["state"] == "running"
    assert json.loads(ask(cookie=bob.cookie).body) == {"state": "unknown"}
    stop = functools.partial(house.ask, "/txt2video/stop?task=task(1)&how=interrupt", method="POST")
    assert stop(cookie=bob.cookie).status == 404
    assert not job.ended.wait(0.1)
    assert house.ask("/txt2video/stop?task=task(1)&how=interrupt", cookie=ann.cookie).status == 404, (
        "GET changes nothing"
    )
    assert stop(cookie=ann.cookie).status == 200
    assert job.ended.wait(5)
    assert json.loads(ask(cookie=ann.cookie).body) == {"state": "ended"}


@pytest.mark.parametrize("name", ASSETS)
def test_the_pages_own_scripts_and_styles_are_there(open_house, name):
    reply = open_house.ask(f"/txt2video/assets/{name}")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/")
    assert len(reply.body) > 500
    assert open_house.ask("/txt2video/assets/../gate.py").status == 404


def test_json_isnt_kept_by_caches():
    assert as_json({}).headers["cache-control"] == "no-store"
