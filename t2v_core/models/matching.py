"""Finds in a file exactly the tensors that a network needs, however they are named there, or says what is wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from t2v_core.models.architectures import recognise
from t2v_core.models.modelscope.checkpoint import Spelling
from t2v_core.models.tensors import FileError, TensorRef, dimensions

Shape = tuple[int, ...]
NAMED_AT_MOST = 5


@dataclass(frozen=True, slots=True)
class Target:
    """One tensor of a network and where it comes from: its elements are the sources', one after the other."""

    name: str
    shape: Shape
    sources: tuple[TensorRef, ...]


def match(
    path: Path,
    tensors: Mapping[str, TensorRef],
    needed: Mapping[str, Shape],
    *,
    spellings: Sequence[Spelling],
    may_be_unused: Callable[[str], bool],
    kind: str,
    usual_names: Mapping[str, str],
) -> tuple[Target, ...]:
    """Pair each needed name with its tensors; strict, but for shapes that differ in 1s at their end.

    Args:
        path: the file, for messages.
        tensors: what the file holds.
        needed: the network's names and shapes, in the order of its state dict.
        spellings: the ways in which a file may name them; the one with the most hits is taken.
        may_be_unused: whether a name in the file is known to be of no use.
        kind: what the file should hold, as `architectures` calls it.
        usual_names: what files of some kinds are called, to tell swapped names.

    Raises:
        FileError: for another architecture's weights, and for missing, unexpected or mis-shaped tensors.
    """
    sources = _best_names(tensors, needed, spellings)
    missing = [name for names in sources.values() for name in names if name not in tensors]
    found = recognise(tensors)
    if missing and found not in (None, kind):
        raise FileError(
            path,
            f"holds {found}, not {kind}.",
            remedy=_remedy_for(found, usual_names),
        )
    if len(missing) == sum(map(len, sources.values())):
        examples = ", ".join(itertools.islice(tensors, 3))
        raise FileError(
            path, f"holds nothing that is {kind}: its tensors are called {examples} ...", remedy=_OTHER_MODEL
        )
    misshapen = [
        f"{name} ({dimensions(tensors[name].shape)} instead of {dimensions(share)})"
        for ours, names in sources.items()
        for share in [_share(needed[ours], len(names))]
        for name in names
        if name in tensors and bare(tensors[name].shape) != bare(share)
    ]
    if misshapen:
        raise FileError(path, f"has tensors of another size: {listed(misshapen)}.", remedy=_OTHER_SIZE)
    used = {name for names in sources.values() for name in names}
    unexpected = [name for name in tensors if name not in used and not may_be_unused(name)]
    for names, what in ((missing, "lacks"), (unexpected, "has unexpected")):
        if names:
            raise FileError(path, f"{what} {listed(names)}.", remedy=_OTHER_MODEL)
    whole_numbers = [name for name in used if not tensors[name].is_floating]
    if whole_numbers:
        raise FileError(
            path,
            f"holds whole numbers where weights should be (quantised?): {listed(sorted(whole_numbers))}.",
            remedy="Get the weights as fp16, bf16 or fp32.",
        )
    return tuple(Target(name, needed[name], tuple(tensors[n] for n in names)) for name, names in sources.items())


_ANOTHER = "Put the file that came with the model in its place."
_OTHER_MODEL = "Download it again, or put the file of this network in its place; it may be another model's."
_OTHER_SIZE = "Use the configuration that came with these weights: it says other sizes than they have."


def _best_names(
    tensors: Mapping[str, TensorRef], needed: Mapping[str, Shape], spellings: Sequence[Spelling]
) -> dict[str, tuple[str, ...]]:
    """The file's names of all that is needed, in the spelling and with the prefix that find the most."""
    best, most = {}, -1
    for spelling in spellings:
        plain = {name: spelling.sources(name) for name in needed}
        for prefix in spelling.prefixes:
            names = {name: tuple(prefix + source for source in sources) for name, sources in plain.items()}
            hits = sum(source in tensors for sources in names.values() for source in sources)
            # A share, not a count: spellings that split a matrix in three have more names to find.
            share = hits / sum(map(len, names.values()))
            if share > most:
                best, most = names, share
    return best


def _share(shape: Shape, sources: int) -> Shape:
    """The shape of each of a tensor's sources: an equal share of its rows."""
    return (shape[0] // sources, *shape[1:]) if shape else ()


def bare(shape: Shape) -> Shape:
    """A shape without the 1s at its end: a matrix and a convolution of kernel 1 hold the same numbers."""
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def listed(names: Sequence[str]) -> str:
    """The first names and how many more there are."""
    shown = ", ".join(name[:120] for name in names[:NAMED_AT_MOST])
    more = len(names) - NAMED_AT_MOST
    return f"{len(names)} tensors: {shown} and {more} more" if more > 0 else shown


def _remedy_for(found: str | None, usual_names: Mapping[str, str]) -> str:
    if found is not None and found in usual_names:
        return f"Were two files' names swapped? A file like this is usually called {usual_names[found]}."
    return _ANOTHER
