"""A finished clip into its files: every format that was asked for, made of the same frames at the same time."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from t2v_core.errors import DiskFullError, FieldProblem, OutputError, RequestError, Txt2VideoError
from t2v_core.fields import names_in
from t2v_core.media import WRITERS, Encoding, Writer
from t2v_core.media.naming import Placement
from t2v_core.media.output import (
    empty,
    endings,
    make_ready,
    publish_together,
    save_frames,
    save_text,
    temporary_target,
    text_beside,
)
from t2v_core.media.several import Attempt, write_all
from t2v_core.media.sound_track import sound_track
from t2v_core.output_fields import SOURCES_SOUND
from t2v_core.postprocess import Footage
from t2v_core.rendering.inputs import path_of
from t2v_core.request import GenerationRequest
from t2v_core.run import ClipSaved, Notice, Run, Stage
from t2v_core.video import Frames, Video

STOP_WITHIN = 1.0
"""Seconds that writing a clip may go on after a stop, so that its last frames aren't lost for a moment's wait."""

_SHARES = (0.9, 0.75, 0.6, 0.45, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.0)
"""How many of the frames that an encoder took before the disk was full are tried to be kept, one after the other."""


def writers_of(request: GenerationRequest) -> list[Writer]:
    """The formats that a request asks for."""
    return [WRITERS[name] for name in names_in(request.format)]


def check_formats(request: GenerationRequest) -> None:
    """See that this machine can write the formats that a request asks for, before anything is made.

    Raises:
        RequestError: with a sentence for each format that it can't write.
    """
    problems = []
    for writer in writers_of(request):
        try:
            writer.check()
        except OutputError as error:
            problems.append(FieldProblem("format", str(error).replace("\n", " ")))
    if problems:
        raise RequestError(problems)


@dataclass(frozen=True, slots=True)
class Saver:
    """Saves one clip: `footage` are its finished frames, `infotext` the recipe in each file.

    `is_partial` says that the clip was stopped before its end, which its name then tells.
    """

    video: Video
    footage: Footage
    placement: Placement
    run: Run
    infotext: str
    is_partial: bool

    def save(self) -> None:
        """Write all files, and report them as one `ClipSaved`.

        A stop ends the writing soon, a full disk at once; what there is by then is kept, in files that are named
        partial. A format that fails alone is left out, which a notice says.

        Raises:
            OutputError: nothing could be written, or the disk is full; what was kept has been reported before.
        """
        make_ready(self.placement.folder)
        with contextlib.ExitStack() as kept:
            encoding = self._encoding(kept)
            attempts = [
                Attempt(writer, kept.enter_context(temporary_target(self.placement.folder, writer)))
                for writer in writers_of(self.video.request)
            ]
            total = len(self.footage.frames)
            partial = self._write(attempts, encoding, frames=total) < total or self.is_partial
            whole = [attempt for attempt in attempts if attempt.error is None]
            for attempt in attempts:
                if attempt.error is not None:
                    empty(attempt.target)  # all of them, before one is tried again: each byte counts now
            fewer = [again for attempt in attempts if (again := self._rescued(attempt, encoding)) is not None]
            trouble = [attempt.error for attempt in attempts if attempt.error is not None]
            if not whole and not fewer:
                raise trouble[0]
            paths = self._publish(whole, fewer, partial=partial or not whole)
        trouble += self._beside(paths[0])
        # A copy: whoever keeps a view of one frame keeps the whole video.
        first = self.footage.frames[:1][0].copy()
        self.run.report(ClipSaved(paths[0], partial or not whole, self.infotext, first, also=tuple(paths[1:])))
        for error in trouble:
            if isinstance(error, DiskFullError):
                raise error
            self.run.report(Notice(str(error)))

    def _encoding(self, kept: contextlib.ExitStack) -> Encoding:
        frames, height, width, _ = self.footage.frames.shape
        request = self.video.request
        return Encoding(
            width=width,
            height=height,
            fps=self.footage.fps,
            infotext=self.infotext,
            crf=request.crf,
            preset=request.preset,
            loop_count=request.loop_count,
            sound=self._sound(kept, seconds=frames / Fraction(self.footage.fps)),
        )

    def _sound(self, kept: contextlib.ExitStack, *, seconds: Fraction) -> Path | None:
        """The sound track that the request wants, if a format can hold one and there is one."""
        request = self.video.request
        given, start, end = sound_source(request)
        if given is None or not any(writer.has_sound for writer in writers_of(request)):
            return None
        try:
            track = kept.enter_context(
                sound_track(given, self.placement.folder, seconds=seconds, start=start, end=end, fit=request.sound_fit)
            )
        except OutputError:
            raise
        except Txt2VideoError as error:  # the clip is worth more than its sound
            self.run.report(Notice(f"The clip is saved without sound: {error}"))
            return None
        if track is None:
            self.run.report(Notice(f"{given.name} has no sound, so the clip has none."))
        return track

    def _write(self, attempts: list[Attempt], encoding: Encoding, *, frames: int) -> int:
        """Encode the first so many frames, or as many as a stop leaves time for; how many there were."""
        fed = 0

        def chunks() -> Iterator[Frames]:
            nonlocal fed
            for index in _until_stopped(range(frames), self.run):
                yield self.footage.frames[index : index + 1]
                fed += 1

        tracked = self.run.track(chunks(), stage=Stage.ENCODING, total=frames, unit="frame")
        write_all(attempts, tracked, encoding)
        return fed

    def _rescued(self, failed: Attempt, encoding: Encoding) -> Attempt | None:
        """The file once more, with as many frames as the full disk has room for; None if that isn't what is wrong."""
        counts = dict.fromkeys(max(1, int(failed.frames * share)) for share in _SHARES)
        error = failed.error
        for count in counts:
            if not isinstance(error, DiskFullError):
                break
            empty(failed.target)
            again = Attempt(failed.writer, failed.target)
            self._write([again], encoding, frames=count)
            if again.error is None:
                return again
            error = again.error
        return None

    def _publish(self, whole: Sequence[Attempt], fewer: Sequence[Attempt], *, partial: bool) -> list[Path]:
        """Give the files their names, all with the same number; of those that hold `fewer` frames each says so."""
        attempts = [*whole, *fewer]
        ends = endings([attempt.writer for attempt in attempts])
        if not partial:
            ends[len(whole) :] = [f"-partial{end}" for end in ends[len(whole) :]]
        stems = self.placement.names(seed=self.video.request.seed, suffix="", partial=partial)
        return publish_together([attempt.target for attempt in attempts], stems, endings=ends)

    def _beside(self, path: Path) -> list[OutputError]:
        """Write what the placement wants beside the clip, and return what went wrong: the clip itself is saved."""
        trouble = []
        if self.placement.text_beside:
            try:
                save_text(self.infotext, text_beside(path))
            except OutputError as error:
                trouble.append(error)
        if self.placement.frames_beside:
            try:
                save_frames(self.footage.frames, path.with_name(f"{path.stem}-frames"))
            except OutputError as error:
                trouble.append(error)
        return trouble


def sound_source(request: GenerationRequest) -> tuple[Path | None, float, float]:
    """The file whose sound a request wants, and where in it to begin and to end, in seconds; no file for none."""
    sound = request.sound.strip()
    if sound != SOURCES_SOUND:
        return (path_of(sound) if sound else None), 0.0, 0.0
    if request.source.strip():
        return path_of(request.source), request.source_start, request.source_end
    if request.continue_from.strip() and request.join:
        return path_of(request.continue_from), 0.0, 0.0
    return None, 0.0, 0.0


def _until_stopped(indices: Iterable[int], run: Run) -> Iterator[int]:
    """The indices up to the time when a stop that comes now must have been obeyed; most clips are whole before."""
    stops, end = run.stops, math.inf
    for index in indices:
        if run.stops > stops and end == math.inf:
            end = time.monotonic() + STOP_WITHIN
        if index and time.monotonic() > end:
            break
        yield index
