"""A network's forward recorded as a CUDA graph and replayed, which spares the processor thousands of launches a step.

Not measured on a GPU yet; see docs/devices.md.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from t2v_core.rendering.devices import empty_cache, is_lost, is_out_of_memory
from t2v_core.rendering.interruptible import Stopped

logger = logging.getLogger(__name__)

WARM_UP = 2
"""Calls that run as usual before one is recorded: libraries choose their kernels in these. Their results count.

One is enough once the network has been recorded in that shape: a text still has its keys and values made.
"""

Network = Callable[[Tensor, Tensor, Any], Tensor]
"""Latents, timesteps and a text in any form to a prediction."""


class Recorded(Protocol):
    """Kernels that can be run again, on the same places in memory."""

    def replay(self) -> None:
        """Run them."""
        ...


Recorder = Callable[[Callable[[], Tensor], Recorded | None], tuple[Recorded, Tensor]]
"""Records what a function does and gives it with the tensor that the function's result is in after every replay.

It may work in the memory of an earlier recording, which never runs at the same time.
"""

_Shape = tuple[object, ...]

_recorded_before: weakref.WeakKeyDictionary[Network, set[_Shape]] = weakref.WeakKeyDictionary()
"""The shapes in which networks have been recorded in this process."""


@dataclass(frozen=True, slots=True)
class _Recording:
    latents: Tensor
    timesteps: Tensor
    graph: Recorded
    output: Tensor


class Graphed:
    """Calls a network, from the third call of a shape and text on by replaying; for one clip.

    Latents and timesteps are copied to the recording's own. The text is part of it, for a network may remember what
    it made of it; another text gets another recording. Should recording fail, the network is called as it is, and
    `report` is told once.
    """

    def __init__(self, network: Network, *, report: Callable[[str], None], record: Recorder | None = None) -> None:
        self._network = network
        self._report = report
        self._record = record or record_on_cuda
        self._calls: dict[tuple[_Shape, int], int] = {}
        self._texts: dict[int, Any] = {}
        self._recordings: dict[tuple[_Shape, int], _Recording] = {}
        self.has_failed = False
        self.is_recording = False

    def __call__(self, latents: Tensor, timesteps: Tensor, text: Any) -> Tensor:
        """The network's output, a tensor of its own."""
        self._texts[id(text)] = text  # held, so that no other text gets its number
        shape = (latents.shape, latents.dtype, timesteps.shape)
        key = (shape, id(text))
        self._calls[key] = self._calls.get(key, 0) + 1
        before = 1 if shape in _recorded_before.get(self._network, ()) else WARM_UP
        if self.has_failed or self._calls[key] <= before:
            return self._network(latents, timesteps, text)
        recording = self._recordings.get(key) or self._recorded(key, latents, timesteps, text)
        if recording is None:
            return self._network(latents, timesteps, text)
        recording.latents.copy_(latents)
        recording.timesteps.copy_(timesteps)
        recording.graph.replay()
        return recording.output.clone()

    def forget(self) -> None:
        """Give back what the recordings hold; the next calls begin again."""
        self._recordings.clear()
        self._calls.clear()

    def _recorded(self, key: tuple[_Shape, int], latents: Tensor, timesteps: Tensor, text: Any) -> _Recording | None:
        places = latents.clone(), timesteps.clone()
        earlier = next((recording.graph for recording in self._recordings.values()), None)
        self.is_recording = True
        try:
            graph, output = self._record(lambda: self._network(*places, text), earlier)
        except Exception as error:
            if isinstance(error, Stopped) or is_out_of_memory(error) or is_lost(error):
                raise
            logger.info("recording failed", exc_info=True)
            self._report(f"The network couldn't be recorded as a CUDA graph, and runs as it is: {error}"[:300])
            self.has_failed = True
            return None
        finally:
            self.is_recording = False
        self._recordings[key] = _Recording(*places, graph, output)
        _recorded_before.setdefault(self._network, set()).add(key[0])
        return self._recordings[key]


def record_on_cuda(forward: Callable[[], Tensor], earlier: Recorded | None) -> tuple[Recorded, Tensor]:
    """Record a function's kernels; raises RuntimeError where one of them can't be, such as one that waits."""
    # The recording has memory of its own: what lies about unused would be there twice.
    empty_cache("cuda")
    graph, pool = torch.cuda.CUDAGraph(), earlier.pool() if isinstance(earlier, torch.cuda.CUDAGraph) else None
    # Around it, for torch stays on the queue that it recorded on where the recording's end fails. A queue of its own,
    # for torch would use one of the device that it recorded on first; and pages may look at previews meanwhile.
    with (
        torch.cuda.stream(torch.cuda.current_stream()),
        torch.cuda.graph(graph, pool=pool, stream=torch.cuda.Stream(), capture_error_mode="thread_local"),
    ):
        output = forward()
    return graph, output
