"""The same frames in several formats at once: read once, encoded in a thread for each format."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from t2v_core.errors import OutputError
from t2v_core.media import Encoding, Writer
from t2v_core.video import Frames

_AHEAD = 4
"""How many chunks wait for a slow encoder; the frames of all formats come at the pace of the slowest."""

_PATIENCE = 0.1  # seconds between two looks at whether an encoder has given up


@dataclass(slots=True)
class Attempt:
    """A format that is written to a temporary target; `error` says why it didn't become whole.

    `frames` counts those that its encoder took: a file that failed had room for no more.
    """

    writer: Writer
    target: Path
    error: OutputError | None = None
    frames: int = 0


def write_all(attempts: list[Attempt], chunks: Iterable[Frames], encoding: Encoding) -> None:
    """Write all of them; one whose encoder fails is left with its error, and the others go on.

    An exception out of `chunks` ends them all and passes through unchanged.
    """
    if len(attempts) == 1:
        _write(attempts[0], chunks, encoding)
        return
    feeds = [_Feed(attempt, encoding) for attempt in attempts]
    whole = False
    try:
        for feed in feeds:
            feed.start()
        for chunk in chunks:
            took = [feed.put(chunk) for feed in feeds]
            if not any(took):
                break
        whole = True
    finally:
        for feed in feeds:
            feed.end(_Whole() if whole else _Abandoned())
        for feed in feeds:
            feed.join()
    for feed in feeds:
        if feed.failure is not None:
            raise feed.failure


def _write(attempt: Attempt, chunks: Iterable[Frames], encoding: Encoding) -> None:
    given = _Given(chunks, attempt)
    try:
        attempt.writer.load()(attempt.target, given, encoding)
    except OutputError as error:
        if given.has_failed:
            raise
        attempt.error = error


class _Given:
    """The chunks, counted, and whether it was them that failed."""

    def __init__(self, chunks: Iterable[Frames], attempt: Attempt) -> None:
        self._chunks = chunks
        self._attempt = attempt
        self.has_failed = False

    def __iter__(self) -> Iterator[Frames]:
        chunks = iter(self._chunks)
        while True:
            try:
                chunk = next(chunks)
            except StopIteration:
                return
            except BaseException:
                self.has_failed = True
                raise
            yield chunk
            self._attempt.frames += len(chunk)


class _Whole:
    """There are no more chunks."""


class _Abandoned(Exception):  # noqa: N818 - it never leaves this module
    """There will be no more chunks, and the file isn't wanted."""


class _Feed(threading.Thread):
    """One format's encoder in a thread of its own."""

    def __init__(self, attempt: Attempt, encoding: Encoding) -> None:
        super().__init__(name=f"txt2video-{attempt.writer.name}", daemon=True)
        self._attempt, self._encoding = attempt, encoding
        self._queue: queue.Queue[Frames | _Whole | _Abandoned] = queue.Queue(_AHEAD)
        self._is_over = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Encode what comes; the thread's own work."""
        try:
            _write(self._attempt, self._chunks(), self._encoding)
        except _Abandoned:
            pass
        except BaseException as error:  # raised again where the frames come from
            self.failure = error
        finally:
            self._is_over.set()

    def put(self, chunk: Frames) -> bool:
        """Hand on a chunk as soon as there is room; False if the encoder takes no more."""
        return self._put(chunk)

    def end(self, reason: _Whole | _Abandoned) -> None:
        """Say that there are no more."""
        if self.ident is not None:
            self._put(reason)

    def join(self, timeout: float | None = None) -> None:
        """Wait for the encoder to end, if it has begun."""
        if self.ident is not None:
            super().join(timeout)

    def _put(self, item: Frames | _Whole | _Abandoned) -> bool:
        while not self._is_over.is_set():
            try:
                self._queue.put(item, timeout=_PATIENCE)
            except queue.Full:
                continue
            return True
        return False

    def _chunks(self) -> Iterator[Frames]:
        while True:
            item = self._queue.get()
            if isinstance(item, _Whole):
                return
            if isinstance(item, _Abandoned):
                raise item
            yield item
