"""How the UNet's kernels get to the device: one by one, compiled, or recorded and replayed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from t2v_core.rendering.compiled import COMPILED, compiled
from t2v_core.rendering.devices import traits_of
from t2v_core.rendering.graphed import Graphed
from t2v_core.rendering.interruptible import interruptible

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Launching:
    """What a request wants: blocks compiled by torch, and the whole network recorded as a CUDA graph."""

    compile: bool = False
    cuda_graph: bool = False


@dataclass(slots=True)
class Launched:
    """A network to call; `compiles` says whether its blocks have run as compiled code."""

    network: Callable[[Tensor, Tensor, Any], Tensor]
    graphed: Graphed | None
    compiles: bool = False

    def __call__(self, latents: Tensor, timesteps: Tensor, text: Any, *, replay: bool) -> Tensor:
        """The network's output; with `replay` false the kernels are launched one by one in any case."""
        network = self.graphed if self.graphed is not None and replay else self.network
        return network(latents, timesteps, text)

    def forget(self) -> None:
        """Give back the memory of what was recorded."""
        if self.graphed is not None:
            self.graphed.forget()


@contextlib.contextmanager
def launched(
    network: nn.Module, wanted: Launching, *, device: str, stopped: Callable[[], bool], report: Report
) -> Iterator[Launched]:
    """Within the block a network runs as wanted, or as it is where that doesn't work, and `report` is told.

    It may be left in the middle of its work by `stopped`, as with `interruptible`.
    """
    graphed = None
    if wanted.cuda_graph:
        if traits_of(device).graphs:
            graphed = Graphed(network, report=report)
        else:
            report(f"The network isn't recorded: {traits_of(device).label} has no CUDA graphs.")

    def asked() -> bool:
        return (graphed is None or not graphed.is_recording) and stopped()

    with compiled(network, device=device, wanted=wanted.compile, report=report) as fallback:
        whole = () if fallback is None else COMPILED
        result = Launched(network, graphed, compiles=fallback is not None)
        with interruptible(network, asked, whole=whole):
            try:
                yield result
            finally:
                result.compiles = fallback is not None and not fallback.has_failed
