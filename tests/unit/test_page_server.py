"""`python -m t2v_core serve` as people use it: a server of its own, logins, the demo model, and a video over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest

from t2v_core.media.reading import read_frames, read_metadata

gradio = pytest.importorskip("gradio", reason="the page is for gradio 5 and newer")
pytestmark = [
    pytest.mark.skipif(int(gradio.__version__.split(".")[0]) < 5, reason="the page is for gradio 5 and newer"),
    pytest.mark.timeout(240),
]
ROOT = Path(__file__).parents[2]
PATIENCE = 90.0


class Browser:
    """As much of a browser as the page needs: cookies, and the page's own way to call a handler."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookie = ""

    def ask(self, method: str, path: str, *, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(
            method, path, body=body, headers={**given, **({"Cookie": self.cookie} if self.cookie else {})}
        )
        reply = connection.getresponse()
        names = {name.lower(): value for name, value in reply.getheaders()}
        content = reply.read()
        connection.close()
        if "set-cookie" in names:
            self.cookie = names["set-cookie"].partition(";")[0]
        return reply.status, names, content

    def log_in(self, user: str, password: str) -> int:
        form = urlencode({"username": user, "password": password}).encode()
        return self.ask("POST", "/login", body=form, Content_Type="application/x-www-form-urlencoded")[0]

    def config(self) -> dict:
        return json.loads(self.ask("GET", "/config")[2])

    def call(self, name: str, values: dict[str, object]) -> list:
        """Press the button whose handler has this name; components hold their first values but for `values`."""
        config = self.config()
        components = {part["id"]: part["props"] for part in config["components"]}
        event = next(event for event in config["dependencies"] if event["api_name"] == name)
        data = [
            values.get(
                str(components[part].get("elem_id", "")).removeprefix("txt2video_"), components[part].get("value")
            )
            for part in event["inputs"]
        ]
        session = os.urandom(6).hex()
        body = json.dumps({"fn_index": event["id"], "data": data, "session_hash": session}).encode()
        status, _, reply = self.ask("POST", "/gradio_api/queue/join", body=body, Content_Type="application/json")
        assert status == 200, reply
        _, _, stream = self.ask("GET", f"/gradio_api/queue/data?session_hash={session}")
        for line in stream.decode().splitlines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                assert message["success"], message
                return message["output"]["data"]
        raise AssertionError(stream)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextlib.contextmanager
def server(folder: Path, *flags: str):
    """A server in an empty folder; ended by a polite kill, which it has to obey."""
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    command = [sys.executable, "-m", "t2v_core", "serve", "--port", str(port), "--device", "cpu", *flags]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
    try:
        until = time.monotonic() + PATIENCE
        while "is at http" not in log.read_text(encoding="utf-8"):
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < until, log.read_text(encoding="utf-8")
            time.sleep(0.1)
        yield port
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text(encoding="utf-8")
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    logins = folder / "logins"
    logins.write_text("ann:pass-of-ann\nbob:pass-of-bob\n", encoding="utf-8")
    logins.chmod(0o600)
    with server(folder, "--auth-file", str(logins), "--output", str(folder / "clips")) as port:
        yield port, folder
    log = (folder / "log").read_text(encoding="utf-8")
    assert "pass-of-" not in log
    assert "Traceback" not in log


def inside(port: int, user: str) -> Browser:
    browser = Browser(port)
    assert browser.log_in(user, f"pass-of-{user}") == 303
    return browser


def test_no_path_of_gradios_is_open_to_strangers(house):
    port, _ = house
    config = inside(port, "ann").config()
    handlers = [f"/gradio_api/call/{event['api_name']}" for event in config["dependencies"] if event["api_name"]]
    paths = ["/config", "/gradio_api/info", "/gradio_api/upload", "/gradio_api/queue/join", "/theme.css", *handlers]
    for path in paths:
        for method in ("GET", "POST"):
            assert Browser(port).ask(method, path, body=b"{}", Content_Type="application/json")[0] == 401, path
    assert Browser(port).ask("GET", "/", Accept="text/html")[0] == 303
    assert Browser(port).log_in("ann", "guessed") == 401


def test_a_video_is_made_and_is_its_makers_alone(house):
    port, folder = house
    ann, bob = inside(port, "ann"), inside(port, "bob")
    wish = {"task": "task(ann)", "prompt": "a red ball moving left on a black background", "seed": 5, "steps": 2}
    player, keys, recipe, messages = ann.call("generate", {**wish, "frames": 3})
    assert not messages
    (clip,) = (folder / "clips").glob("*.mp4")
    assert read_frames(clip).shape == (3, 64, 64, 3)
    assert "Seed: 5" in (read_metadata(clip) or "")
    assert "Seed: 5" in recipe
    address = "/txt2video" + player.partition('src="txt2video')[2].partition('"')[0]
    status, headers, content = ann.ask("GET", address, Range="bytes=0-99")
    assert (status, headers["content-type"], len(content)) == (206, "video/mp4", 100)
    assert ann.ask("GET", address)[2] == clip.read_bytes()
    assert bob.ask("GET", address)[0] == 404
    assert Browser(port).ask("GET", address)[0] == 401
    for path in (clip, folder / "logins"):
        assert ann.ask("GET", f"/gradio_api/file={path}")[0] in {403, 404}
    (key,) = json.loads(keys)
    chosen = json.dumps({"key": key, "frame": 0})
    assert "Choose a clip first" in bob.call("delete", {"chosen": chosen, "keys": keys})[-1]
    assert clip.is_file()
    assert "no longer here" in bob.call("restore", {"task": "task(ann)"})[-1]
    assert ann.call("restore", {"task": "task(ann)"})[1] == keys
    clip.unlink()
    assert ann.call("restore", {"task": "task(ann)"})[:2] == ["", "[]"], "a clip that is gone isn't shown"


@pytest.mark.parametrize("model", ["t2v_core/demo", "../demo", "/"])
def test_a_path_is_no_models_name(house, model):
    port, _ = house
    model = str(ROOT / model) if model.startswith("t2v_core") else model
    reply = inside(port, "ann").call("generate", {"task": f"task({model})", "model": model, "steps": 1, "frames": 1})
    assert "There is no model called" in reply[-1]


def test_an_empty_dropdown_is_the_models_own_choice(house):
    port, _ = house
    wish = {"task": "task(empty)", "schedule": None, "sampler": "", "steps": 1, "frames": 1}
    assert "Schedule type: Model" in inside(port, "ann").call("generate", wish)[2]


def test_what_is_wrong_is_said_with_its_field(house):
    port, _ = house
    reply = inside(port, "ann").call("generate", {"task": "task(wrong)", "steps": 5000, "sampler": "Nobody's"})
    assert "Steps must be" in reply[-1]
    assert "&quot;sampler&quot;" in reply[-1]


def test_two_people_wait_for_each_other_and_a_stop_keeps_what_there_is(house):
    port, folder = house
    ann, bob = inside(port, "ann"), inside(port, "bob")
    before = set((folder / "clips").glob("*.mp4"))
    results: dict[str, list] = {}

    def make(browser: Browser, name: str, **wish) -> None:
        results[name] = browser.call("generate", {"task": f"task({name})", "prompt": name, **wish})

    threads = [
        threading.Thread(target=make, args=(ann, "long"), kwargs={"steps": 1000, "frames": 32}),
        threading.Thread(target=make, args=(bob, "short"), kwargs={"steps": 2, "frames": 2}),
    ]
    threads[0].start()
    wait_for(lambda: re.match("Sampling ([3-9]|[1-9][0-9])", progress(ann, "long").get("words", "")))
    threads[1].start()
    wait_for(lambda: progress(bob, "short").get("before") == 1)
    assert progress(bob, "long") == {"state": "unknown"}
    assert progress(ann, "long")["fraction"] > 0
    started = time.monotonic()
    assert ann.ask("POST", "/txt2video/stop?task=task(long)&how=interrupt")[0] == 200
    for thread in threads:
        thread.join(PATIENCE)
    assert time.monotonic() - started < 30
    assert "stopped early" in results["long"][0]
    made = set((folder / "clips").glob("*.mp4")) - before
    assert sorted("-partial" in path.name for path in made) == [False, True]
    for path in made:
        assert len(read_frames(path))


def progress(browser: Browser, name: str) -> dict:
    return json.loads(browser.ask("GET", f"/txt2video/progress?task=task({name})")[2])


def wait_for(condition) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_taken_port_is_said(tmp_path, house):
    port, _ = house
    command = [sys.executable, "-m", "t2v_core", "serve", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 9
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr
