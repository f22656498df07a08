"""A file that is written piece by piece between a caller's frames, whose errors aren't those of the frames."""

from __future__ import annotations

import types
from pathlib import Path
from typing import IO

from t2v_core.media.problems import output_error
from t2v_core.media.temporary import folder_of


class WrittenFile:
    """A context in which bytes are written to `target`; what the disk refuses is an `OutputError`.

    An `OSError` out of the block is another's and passes through.
    """

    def __init__(self, target: Path, *, folder: Path | None = None) -> None:
        self._target = target
        self._folder = folder or folder_of(target)  # the one that a person knows
        self._file: IO[bytes] | None = None

    def __enter__(self) -> WrittenFile:
        try:
            self._file = self._target.open("wb")
        except OSError as error:
            raise output_error(error, self._folder) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        assert self._file is not None
        try:
            self._file.close()
        except OSError as refused:
            if error is None:
                raise output_error(refused, self._folder) from refused

    def write(self, content: bytes, *, at: int | None = None) -> int:
        """Write behind what is there, or over it; how long the file is now or, with `at`, where that ends."""
        assert self._file is not None
        try:
            if at is not None:
                self._file.seek(at)
            self._file.write(content)
            return self._file.tell()
        except OSError as error:
            raise output_error(error, self._folder) from error
