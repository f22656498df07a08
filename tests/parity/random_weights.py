"""The same random weights for every implementation, and how far two outputs are apart.

A tensor's values depend only on its own name and shape, so two big networks never need to be in memory together.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Sources = Callable[[str], tuple[str, ...]]
"""One of our tensors' names to the names that another implementation spreads its rows over, in their order."""


def random_tensor(name: str, shape: torch.Size | tuple[int, ...], *, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor that leaves activations at about their size, with nothing zero and no norm neutral.

    Matrices and kernels are divided by the root of their fan-in; vectors are norms' gains (around 1) or shifts.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    values = torch.randn(tuple(shape), generator=generator)
    if name.endswith(("embedding.weight", "embedding")):
        return values.mul_(0.5).to(dtype)
    if len(shape) > 1:
        return values.div_(values[0].numel() ** 0.5).to(dtype)
    values.mul_(0.2)
    return (values.add_(1.0) if name.endswith("weight") else values).to(dtype)


def random_input(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Unit normal values that depend on the name and the shape."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randn(shape, generator=generator).to(dtype)


def build(kind: Callable[[], nn.Module]) -> nn.Module:
    """A network without memory for its weights, in inference mode."""
    with torch.device("meta"):
        return kind().eval().requires_grad_(False)


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of everything that a checkpoint of this network holds."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def fill(network: nn.Module, *, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Give a network its weights by its own names."""
    weights = {name: random_tensor(name, shape, dtype=dtype) for name, shape in shapes(network).items()}
    return assign(network, weights)


def assign(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Put the weights in, strictly; torch before 2.2 asks for the gradients of what it assigns, so that is undone."""
    network.load_state_dict(weights, strict=True, assign=True)
    return network.requires_grad_(False)


def fill_through_map(
    network: nn.Module,
    ours: Mapping[str, tuple[int, ...]],
    sources: Sources,
    *,
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """Give another implementation the weights that `fill` gives to a network of our names and shapes.

    Strict both ways: each of our tensors has a place, and each of its tensors comes from exactly one of ours.
    """
    theirs, weights = shapes(network), {}
    for name, shape in ours.items():
        names = sources(name)
        parts = random_tensor(name, shape, dtype=dtype).chunk(len(names))
        for target, part in zip(names, parts, strict=True):
            assert target not in weights, f"{target} comes from two of our tensors"
            weights[target] = part.reshape(theirs[target])
    return assign(network, weights)


@dataclass(frozen=True)
class Distance:
    """How far one output is from another, relative to the other: by norm, and by the largest element."""

    by_norm: float
    by_largest: float

    @property
    def worst(self) -> float:
        return max(self.by_norm, self.by_largest)


def distance(ours: Tensor, theirs: Tensor) -> Distance:
    """Compare two outputs that are large and varied enough for a relative error to mean something."""
    assert ours.shape == theirs.shape
    ours, theirs = ours.double(), theirs.double()
    assert torch.isfinite(theirs).all()
    assert theirs.std() > 0.05, "the output is too small or too even to compare"
    gap = ours - theirs
    return Distance(by_norm=float(gap.norm() / theirs.norm()), by_largest=float(gap.abs().max() / theirs.abs().max()))
