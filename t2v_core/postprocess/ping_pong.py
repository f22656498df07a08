"""Ping-pong: the clip once forwards and once backwards, so that it can be repeated without a jump."""

from __future__ import annotations

import dataclasses

import numpy as np

from t2v_core.postprocess import Footage, Means
from t2v_core.request import GenerationRequest
from t2v_core.video import Frames, FrameSource


def process(footage: Footage, request: GenerationRequest, means: Means) -> Footage:
    """See `t2v_core.postprocess.Process`: f frames become 2f - 2, for neither end is shown twice in a row."""
    if not request.ping_pong or len(footage.frames) < 3:
        return footage
    return dataclasses.replace(footage, frames=PingPong(footage.frames), is_loop=True)


class PingPong:
    """Frames 0 … f-1 and then f-2 … 1 of a source, none of them held."""

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._count = 2 * len(source) - 2

    @property
    def shape(self) -> tuple[int, ...]:
        """(2f - 2, h, w, 3)."""
        return (self._count, *self._source.shape[1:])

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: slice, /) -> Frames:
        wanted = range(*index.indices(self._count))
        turn = len(self._source)
        forwards = [place for place in wanted if place < turn]
        backwards = [self._count - place for place in wanted if place >= turn]
        if wanted.step != 1:
            places = [place if place < turn else self._count - place for place in wanted]
            parts = [self._source[place : place + 1] for place in places]
        else:
            parts = [self._source[forwards[0] : forwards[-1] + 1]] if forwards else []
            parts += [self._source[backwards[-1] : backwards[0] + 1][::-1]] if backwards else []
        return np.concatenate(parts) if parts else self._source[:0]
