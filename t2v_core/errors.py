"""The exceptions that reach a user: each names the thing that is wrong and the remedy.

Front doors translate this tree once: the command line to exit codes, the tab to messages, the API to status codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class Txt2VideoError(Exception):
    """Base of all errors that are the user's to read; `str(error)` is the problem followed by the remedy."""

    exit_code = 1

    def __init__(self, problem: str, *, remedy: str = "") -> None:
        super().__init__(f"{problem}\n{remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One field of a request that is wrong: its name and a sentence that holds the allowed range."""

    field: str
    message: str


class RequestError(Txt2VideoError):
    """A request is wrong; `problems` lists everything that is wrong with it, not only the first."""

    exit_code = 2

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__("\n".join(problem.message for problem in problems))
        self.problems = tuple(problems)


class ModelNotFoundError(Txt2VideoError):
    """No model of that name or folder."""

    exit_code = 3


class WeightsError(Txt2VideoError):
    """A model's file is missing, damaged, unsafe, or another architecture's."""

    exit_code = 3


class OutputError(Txt2VideoError):
    """The result can't be written: folder, disk, name or encoder."""

    exit_code = 4


class DiskFullError(OutputError):
    """The disk has no room for the rest of a file."""


class UnreadableFileError(Txt2VideoError):
    """A file that was given as input can't be read or isn't what it should be."""

    exit_code = 5


class NonFiniteError(Txt2VideoError):
    """The network gave NaN, infinite or all-equal latents, in full precision too."""

    exit_code = 6


class OutOfMemoryError(Txt2VideoError):
    """The machine's or the GPU's memory doesn't hold the run; `lower` are values of fields with which it might."""

    exit_code = 7

    def __init__(self, problem: str, *, remedy: str = "", lower: Mapping[str, int | bool] | None = None) -> None:
        super().__init__(problem, remedy=remedy)
        self.lower = dict(lower or {})


class DeviceLostError(Txt2VideoError):
    """The device itself failed, so that nothing more runs on it in this process."""

    exit_code = 10


class DownloadError(Txt2VideoError):
    """A model can't be downloaded: the hub can't be reached, refuses, or sends something else than it announced."""

    exit_code = 8


class ServeError(Txt2VideoError):
    """The page can't be served: gradio isn't installed, the port is taken, or strangers could come in."""

    exit_code = 9


class BusyError(ServeError):
    """The page has enough to do: more runs are in line than it takes."""


class Cancelled(Txt2VideoError):  # noqa: N818 - stopping on request is no error
    """The user stopped the run before there was anything to keep."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("Stopped before the first frame could be kept.")
