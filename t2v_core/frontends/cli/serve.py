"""`serve`: the page of its own, until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from t2v_core.errors import ServeError
from t2v_core.frontends.page.logins import FORM, check_reachable, is_loopback, logins_from
from t2v_core.hosts.standalone import OUTPUT_FOLDER, StandaloneHost

PORT = 7860


def add_flags(action: argparse.ArgumentParser) -> None:
    """The flags of `serve`."""
    action.add_argument(
        "--listen", default="127.0.0.1", metavar="HOST",
        help="the address to listen on, 0.0.0.0 for all; beyond this machine only with a login; default: 127.0.0.1",
    )  # fmt: skip
    action.add_argument("--port", type=_port, default=PORT, metavar="N", help=f"default: {PORT}")
    action.add_argument(
        "--auth", action="append", default=[], metavar=FORM,
        help="a login, may be given again; other users of this machine can see it, so rather use --auth-file",
    )  # fmt: skip
    action.add_argument("--auth-file", type=Path, metavar="FILE", help=f"logins: a text file with one {FORM} a line")
    action.add_argument(
        "--root-path", default="", type=_root_path, metavar="PATH",
        help='the path that a proxy in front of it serves it under, such as "/video"',
    )  # fmt: skip
    action.add_argument("--output", type=Path, metavar="FOLDER", help="default: outputs/txt2video-videos/DATE")
    action.add_argument("--device", help='torch device, such as "cpu" or "cuda:1"; default: the best there is')


def serve(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C or a polite kill; the running clip is stopped and what there is of it saved."""
    logins = logins_from(options.auth, options.auth_file)
    check_reachable(options.listen, logins)
    if importlib.util.find_spec("gradio") is None:
        raise ServeError("The page needs gradio, which isn't installed.", remedy=f"Run: {how_to_install()}")
    from t2v_core.frontends.tab.page import serving

    made_here = (options.output or Path.cwd() / OUTPUT_FOLDER,)
    host = StandaloneHost(options.models_folder, options.device, options.output, input_folders=made_here)
    host.device()  # a device that isn't there is said now, not at the first run
    with _until_stopped() as stopped, serving(
        host, listen=options.listen, port=options.port, logins=logins, root_path=options.root_path
    ) as port:  # fmt: skip
        name = f"[{options.listen}]" if ":" in options.listen else options.listen
        print(f"txt2video is at http://{name}:{port}{options.root_path}/", flush=True)
        if not is_loopback(options.listen):
            print(
                "Other machines can log in. Their passwords cross the network unencrypted, unless a proxy with HTTPS "
                "stands in front.",
                file=sys.stderr,
            )
        print("Ctrl-C stops it.", file=sys.stderr, flush=True)
        stopped.wait()
        print("\nStopping: saving what the running clip has.", file=sys.stderr, flush=True)
    return 0


def how_to_install() -> str:
    """The command that installs what the page needs beside what is here."""
    checkout = Path(__file__).resolve().parents[3]
    what = f"{checkout}[page]" if (checkout / "pyproject.toml").is_file() else "gradio>=5,<7"
    return f'{sys.executable} -m pip install "{what}"'


@contextlib.contextmanager
def _until_stopped() -> Iterator[threading.Event]:
    """An event that Ctrl-C and a polite kill set; the second one ends the program at once."""
    stopped = threading.Event()

    def stop(number: int, frame: object) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    from t2v_core.frontends.cli.progress import handling_stops

    with handling_stops(stop):
        yield stopped


def _port(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, not {text!r}")
    return int(text)


def _root_path(text: str) -> str:
    path = text.rstrip("/")
    if path and not path.startswith("/"):
        raise argparse.ArgumentTypeError(f"a root path begins with /, unlike {text!r}")
    return path
