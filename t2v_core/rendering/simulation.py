"""How much memory a network's pass takes, found by going through its own code without computing anything.

The tensors have shapes and no memory (torch's "meta" device); after each operation the storages that somebody still
holds are added up. What a kernel takes for itself and gives back is `Kernels`' to know, where it is worth knowing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from t2v_core.rendering.shapes import result_of


class LiveBytes(TorchFunctionMode):
    """Follows which storages are alive, but for those that are `known` before.

    `seen` is called with the bytes after each operation that gave a tensor; it may raise.
    """

    def __init__(self, *, known: Iterable[Tensor] = (), seen: Callable[[int], None]) -> None:
        super().__init__()
        self._known = {StorageWeakRef(tensor.untyped_storage()) for tensor in known}
        self._known_ids = {reference.cdata for reference in self._known}
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self._seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one function and look at what it gave."""
        result = self.run(func, args, kwargs or {})
        if isinstance(result, Tensor):
            self._look((result,))
        elif isinstance(result, (tuple, list)) and any(isinstance(value, Tensor) for value in result):
            self._look([value for value in result if isinstance(value, Tensor)])
        return result

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What the function gives."""
        return func(*args, **kwargs)

    @property
    def now(self) -> int:
        """Bytes that are alive."""
        for key in [key for key, (reference, _) in self._live.items() if reference.expired()]:
            del self._live[key]
        return sum(size for _, size in self._live.values())

    def _look(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            if tensor.layout is not torch.strided:  # a packed weight has no storage
                continue
            storage = tensor.untyped_storage()
            if storage._cdata not in self._known_ids and storage._cdata not in self._live and storage.nbytes():
                self._live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._seen(self.now)


class _Shapes(LiveBytes):
    """The same without computing: results are made from the shapes of what goes in."""

    def __init__(self, *, known: Iterable[Tensor], seen: Callable[[int], None], kind: str) -> None:
        super().__init__(known=known, seen=seen)
        self._kind = kind
        self._count = seen

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What the function would give, on the meta device."""
        result, workspace = result_of(getattr(func, "__name__", ""), args, kwargs, kind=self._kind)
        if result is None:
            return func(*args, **kwargs)
        if not any(result is value for value in args):
            self._count(self.now + result.untyped_storage().nbytes() + workspace)
        return result


def trace(call: Callable[[], object], *, networks: Sequence[nn.Module], kind: str) -> tuple[int, ...]:
    """Bytes alive after each operation of a call, all of whose tensors are on the meta device; weights don't count.

    `kind` is the device whose kernels would run.
    """
    weights = [tensor for network in networks for tensor in network.state_dict().values()]
    live: list[int] = []
    with torch.no_grad(), _Shapes(known=weights, seen=live.append, kind=kind):
        result = call()
    del result
    return tuple(live)


@dataclass(frozen=True, slots=True)
class Growth:
    """How the peak grows with the size of the work: the highest of some straight lines (bytes at 0, bytes per unit)."""

    lines: tuple[tuple[float, float], ...]

    @classmethod
    def between(cls, first: tuple[int, Sequence[int]], second: tuple[int, Sequence[int]]) -> Growth:
        """From what was alive after each operation at two sizes; the operations need to be the same ones."""
        (size, live), (other, others) = first, second
        if len(live) != len(others):
            live, others = (max(live),), (max(others),)
        slopes = [(b - a) / (other - size) for a, b in zip(live, others, strict=True)]
        return cls(_highest([(a - slope * size, slope) for a, slope in zip(live, slopes, strict=True)]))

    def peak(self, size: float) -> int:
        """Bytes at the peak of work of this size."""
        return math.ceil(max(start + slope * size for start, slope in self.lines))


def _highest(lines: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Those lines that no other one is above everywhere from 0 on."""
    kept: list[tuple[float, float]] = []
    for line in sorted(set(lines), key=lambda line: (-line[1], -line[0])):
        if not kept or line[0] > kept[-1][0]:
            kept.append(line)
    return tuple(kept)
