"""Who may come in: user names and passwords from the command line or a file, and the visitors that are inside."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import secrets
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

from t2v_core.errors import ServeError, UnreadableFileError

logger = logging.getLogger(__name__)

MOST_VISITORS = 10_000
"""How many browsers are remembered; who hasn't been here for longest has to log in again."""

LARGEST_FILE = 2**20
FORM = "USER:PASSWORD"


def logins_from(pairs: Sequence[str], file: Path | None) -> dict[str, str]:
    """Passwords by user name, of `USER:PASSWORD` texts and of a file with one a line.

    Raises:
        UnreadableFileError: the file can't be read or has a line of another form; no password is ever in a message.
        ServeError: a text has another form.
    """
    logins = {}
    for pair in pairs:
        user, colon, password = pair.partition(":")
        if not (user and colon and password):
            raise ServeError(f"--auth is {FORM}, with something on both sides of the colon.")
        logins[user] = password
    for number, line in enumerate(_lines(file) if file else (), start=1):
        user, colon, password = line.partition(":")
        if not line.strip() or line.startswith("#"):
            continue
        if not (user and colon and password):
            raise UnreadableFileError(f"Line {number} of {file} isn't {FORM}.")
        logins[user] = password
    if file and not logins:
        raise UnreadableFileError(f"{file} has no login in it.", remedy=f"Write one {FORM} a line.")
    return logins


def _lines(file: Path) -> list[str]:
    try:
        status = file.stat()
        if status.st_size > LARGEST_FILE:
            raise UnreadableFileError(f"{file} is too large for a file of logins.")
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"{file} is no UTF-8 text.", remedy="Save it as UTF-8.") from error
    except OSError as error:
        raise UnreadableFileError(f"{file} can't be read: {error.strerror}.") from error
    if sys.platform != "win32" and status.st_mode & 0o077:
        logger.warning("Other users of this machine can read %s. Run: chmod 600 %s", file, file)
    return text.splitlines()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there; a name other than localhost may be anything."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_reachable(host: str, logins: Mapping[str, str]) -> None:
    """Raise `ServeError` if other machines could come in without a login."""
    if not is_loopback(host) and not logins:
        raise ServeError(
            f"Listening on {host} lets other machines in, and there is no login.",
            remedy=f"Give --auth-file FILE (one {FORM} a line) or --auth {FORM}, or leave out --listen.",
        )


class Visitors:
    """The browsers that are inside, by the secret in their cookie; without logins everybody may come in.

    A visitor's name is another secret that stays in this process, so that no page can claim to be somebody else.
    """

    def __init__(self, logins: Mapping[str, str]) -> None:
        self._logins = {user: _digest(password) for user, password in logins.items()}
        self._inside: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def need_login(self) -> bool:
        """Whether there are logins at all."""
        return bool(self._logins)

    def is_right(self, user: str, password: str) -> bool:
        """Whether a password is the user's; takes as long for a user that there isn't."""
        expected = self._logins.get(user, _digest(secrets.token_hex()))
        return hmac.compare_digest(expected, _digest(password))

    def enter(self) -> str:
        """Let a browser in; the secret for its cookie."""
        secret = secrets.token_urlsafe(32)
        with self._lock:
            self._inside[secret] = secrets.token_hex(16)
            while len(self._inside) > MOST_VISITORS:
                self._inside.popitem(last=False)
        return secret

    def name(self, secret: str) -> str | None:
        """The visitor whose cookie holds this secret, if one does."""
        with self._lock:
            if secret in self._inside:
                self._inside.move_to_end(secret)
            return self._inside.get(secret)

    def leave(self, secret: str) -> None:
        """Let the browser in no more."""
        with self._lock:
            self._inside.pop(secret, None)


def _digest(password: str) -> bytes:
    return hashlib.sha256(password.encode()).digest()
