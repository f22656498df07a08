"""Runs in line, one at a time, for several people: who is before me, how far it is, stop it, what came of it."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from t2v_core.errors import BusyError
from t2v_core.run import Listener, Run

logger = logging.getLogger(__name__)

MOST_WAITING = 100
MOST_WAITING_OF_ONE = 10
REMEMBERED = 200
"""How many ended jobs' results are kept, so that a page that was closed can be opened again and show them."""


class Job:
    """One run of one owner; `result` is there once `ended` is set."""

    def __init__(self, name: str, *, owner: str, work: Callable[[Run], Any], follower: Listener, unbegun: Any) -> None:
        self.name = name
        self.owner = owner
        self.follower = follower
        self.run = Run(follower)
        self.ended = threading.Event()
        self.result: Any = None
        self.error: Exception | None = None
        self._work = work
        self._unbegun = unbegun

    def work(self) -> None:
        """Do it, in the thread of the jobs; what it raises is in `error`."""
        try:
            self.result = self._work(self.run)
        except Exception as error:
            logger.exception("The job %s failed", self.name)
            self.error = error
        finally:
            self.ended.set()

    def leave(self) -> None:
        """End without having begun."""
        self.result = self._unbegun
        self.ended.set()


class Jobs:
    """The line; may be used from any thread. A job goes on when nobody waits for it any more."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[tuple[str, str], Job] = OrderedDict()
        self._waiting: list[Job] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def submit(
        self, name: str, *, owner: str, work: Callable[[Run], Any], follower: Listener, unbegun: Any = None
    ) -> Job:
        """Put a job at the end of the line: `follower` hears its events, `unbegun` is its result if it never begins.

        Raises:
            BusyError: the line is full, or the owner has enough in it.
        """
        job = Job(name, owner=owner, work=work, follower=follower, unbegun=unbegun)
        with self._changed:
            if self._is_closed:
                raise BusyError("The server is being stopped.", remedy="Try again when it's back.")
            mine = sum(other.owner == owner for other in self._waiting)
            if mine >= MOST_WAITING_OF_ONE:
                raise BusyError(f"You have {mine} runs in line already.", remedy="Wait for one to end, or stop one.")
            if len(self._waiting) >= MOST_WAITING:
                raise BusyError(f"There are {len(self._waiting)} runs in line already.", remedy="Try again later.")
            if (owner, name) in self._jobs:
                raise BusyError("This run is in line already.")
            self._jobs[owner, name] = job
            self._waiting.append(job)
            self._forget()
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="txt2video jobs", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return job

    def find(self, name: str, *, owner: str) -> Job | None:
        """The owner's job of that name, also one that has ended lately; nobody finds another's."""
        with self._changed:
            return self._jobs.get((owner, name))

    def before(self, job: Job) -> int:
        """How many jobs come first: 0 if it's running or has ended."""
        with self._changed:
            return self._waiting.index(job) + 1 if job in self._waiting else 0

    def interrupt(self, job: Job) -> None:
        """Stop the job and keep what is there; one that waits leaves the line."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                job.leave()
                return
        job.run.interrupt()

    def skip(self, job: Job) -> None:
        """Go on to the job's next clip; where it hasn't begun there is nothing to skip."""
        if not self.before(job):
            job.run.skip()

    def close(self, timeout: float) -> None:
        """Take no more jobs, stop the running one, and give it so many seconds to save what it has."""
        with self._changed:
            self._is_closed = True
            jobs = [job for job in self._jobs.values() if not job.ended.is_set()]
            self._changed.notify_all()
        for job in jobs:
            self.interrupt(job)
        if self._thread is not None:
            self._thread.join(timeout)

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._is_closed:
                        return
                    self._changed.wait()
                job = self._waiting.pop(0)
            job.work()

    def _forget(self) -> None:
        ended = [key for key, job in self._jobs.items() if job.ended.is_set()]
        for key in ended[: max(0, len(ended) - REMEMBERED)]:
            del self._jobs[key]
