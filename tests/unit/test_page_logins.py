"""Who may come into the page: logins, where it may listen without one, and what the command says of it."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from t2v_core.errors import ServeError, UnreadableFileError
from t2v_core.frontends.cli import main
from t2v_core.frontends.cli.parser import build_parser
from t2v_core.frontends.page.logins import Visitors, check_reachable, is_loopback, logins_from

SECRET = "correct-horse"


def test_logins_come_from_the_flags_and_from_a_file(tmp_path):
    file = tmp_path / "logins"
    file.write_text(f"# who may come in\n\nann:{SECRET}\nbob:with:colons: and spaces \n", encoding="utf-8")
    file.chmod(0o600)
    assert logins_from(["eve:x"], file) == {"eve": "x", "ann": SECRET, "bob": "with:colons: and spaces "}
    assert logins_from([], None) == {}


@pytest.mark.parametrize("text", ["ann", ":x", "ann:", ""])
def test_a_login_of_another_form_is_refused(text):
    with pytest.raises(ServeError, match="USER:PASSWORD"):
        logins_from([text], None)


@pytest.mark.parametrize("content", [f"ann {SECRET}\n", f":{SECRET}\n", "# nobody\n", b"\xff\xfe\x00x"])
def test_a_file_without_proper_logins_is_refused_without_showing_it(tmp_path, content):
    file = tmp_path / "logins"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    file.chmod(0o600)
    with pytest.raises(UnreadableFileError) as caught:
        logins_from([], file)
    assert SECRET not in str(caught.value)
    with pytest.raises(UnreadableFileError, match="can't be read"):
        logins_from([], tmp_path / "nowhere")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_a_file_that_others_can_read_is_warned_of(tmp_path, caplog):
    file = tmp_path / "logins"
    file.write_text(f"ann:{SECRET}\n", encoding="utf-8")
    file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        logins_from([], file)
    assert "chmod 600" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "::1", "[::1]"])
def test_this_machine_alone_needs_no_login(host):
    assert is_loopback(host)
    check_reachable(host, {})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "localhost.example.org", ""])
def test_nothing_listens_beyond_this_machine_without_a_login(host):
    with pytest.raises(ServeError, match="no login"):
        check_reachable(host, {})
    check_reachable(host, {"ann": SECRET})


def test_a_visitor_is_known_by_a_secret_alone():
    visitors = Visitors({"ann": SECRET})
    assert visitors.need_login
    assert visitors.is_right("ann", SECRET)
    assert not visitors.is_right("ann", SECRET + "x")
    assert not visitors.is_right("bob", SECRET)
    assert not visitors.is_right("", "")
    secret = visitors.enter()
    name = visitors.name(secret)
    assert name
    assert name not in secret
    assert visitors.name(visitors.enter()) != name, "two browsers of one user are two visitors"
    assert visitors.name("") is None
    visitors.leave(secret)
    assert visitors.name(secret) is None


def test_the_command_refuses_to_be_open_to_strangers(capsys):
    assert main(["serve", "--listen", "0.0.0.0"]) == ServeError.exit_code
    said = capsys.readouterr().err
    assert "--auth-file" in said


def test_the_command_never_prints_a_password(capsys):
    assert main(["serve", "--listen", "0.0.0.0", "--auth", SECRET]) == ServeError.exit_code
    captured = capsys.readouterr()
    assert SECRET not in captured.out + captured.err


def test_the_command_says_how_to_install_gradio(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["serve"]) == ServeError.exit_code
    said = capsys.readouterr().err
    assert "gradio" in said
    assert "-m pip install" in said
    assert "[page]" in said


def test_flags_have_the_values_that_a_newcomer_wants():
    options = build_parser().parse_args(["serve"])
    assert (options.listen, options.port, options.auth, options.auth_file) == ("127.0.0.1", 7860, [], None)
    options = build_parser().parse_args(["serve", "--auth", "a:b", "--auth", "c:d", "--root-path", "/video/"])
    assert options.auth == ["a:b", "c:d"]
    assert options.root_path == "/video"


@pytest.mark.parametrize("flags", [["--port", "0"], ["--port", "70000"], ["--port", "x"], ["--root-path", "video"]])
def test_flags_that_make_no_sense_are_refused(flags, capsys):
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(["serve", *flags])
    assert caught.value.code == 2
    capsys.readouterr()


def test_the_command_line_is_quick_without_gradio():
    script = "import sys, t2v_core.frontends.cli; sys.exit(bool({'torch', 'gradio'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
