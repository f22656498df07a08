"""The command line of `python -m benchmarks compare`, and what it asks for."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.compare.cases import DECODE, END_TO_END, GUIDED, LOAD, START_UP, STEP, WHATS, Case, is_about_files
from benchmarks.compare.estimate import ITEM_BYTES
from benchmarks.compare.processes import ROOT, Bench
from benchmarks.compare.results import OURS, WAYS
from benchmarks.compare.sizes import FULL, SIZES, SMALL, TINY_SIZE, Size, parse_size
from benchmarks.compare.weights import DIFFUSERS, ORIGINAL
from t2v_core.rendering.measures import AUTO, MEMORY

log = logging.getLogger(__name__)

PACKAGES = {"Diffusers": "diffusers", "ModelScope": "modelscope"}
PEERS = tuple(PACKAGES)
FOLDER = ROOT / "build" / "compare"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for."""

    bench: Bench
    precisions: tuple[str, ...]
    cases: tuple[Case, ...]
    contenders: tuple[str, ...]
    rounds: int
    memory: bool
    seconds: float

    def who(self, case: Case) -> tuple[str, ...]:
        """The contenders that a case tells apart: what lies outside the UNet all ways of ours have in common."""
        alike = () if case.what in {STEP, GUIDED, END_TO_END} else WAYS[1:]
        return tuple(name for name in self.contenders if name not in alike)

    @property
    def layouts(self) -> tuple[str, ...]:
        """The weights' layouts that are loaded. Tensors that contenders share come from the original's files."""
        own_files = any(is_about_files(case) or (self.memory and case.what == END_TO_END) for case in self.cases)
        return (ORIGINAL, DIFFUSERS) if own_files and "Diffusers" in self.contenders else (ORIGINAL,)


def wish_of(options: argparse.Namespace) -> Wish:
    """What is to be measured, with everything left open filled in; a missing package is said and left out."""
    cuda = options.device.startswith("cuda")
    folder = (options.folder or FOLDER / ("small" if options.small else "full")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    config = SMALL if options.small else FULL
    bench = Bench(folder, config, options.device, options.small, options.threads, options.memory)
    sizes = options.sizes or ([TINY_SIZE] if options.small else list(SIZES.values()) if cuda else
                              [SIZES["128x128x8"], SIZES["256x256x16"]])  # fmt: skip
    precisions = options.precisions or (("fp16", "bf16") if cuda else _of_processor())
    steps = options.steps or (25 if cuda else 4)
    sampler = options.sampler or ("DPM++ 2M" if cuda else "DDIM")
    whats = options.what or [what for what in WHATS if cuda or what != GUIDED]
    cases = tuple(_cases(whats, sizes, steps=steps, sampler=sampler, decoded=options.decode_frames))
    wanted = options.contenders or ([*WAYS, *PEERS] if cuda else [OURS, *PEERS])
    missing = [name for name in wanted if name in PACKAGES and importlib.util.find_spec(PACKAGES[name]) is None]
    for name in missing:
        log.info("skipped: %s isn't installed; docs/performance.md says how to", PACKAGES[name])
    contenders = tuple(name for name in wanted if name not in missing)
    return Wish(bench, tuple(precisions), cases, contenders, options.rounds, not options.no_memory, 60 * options.time)


def _cases(whats: Sequence[str], sizes: Sequence[Size], *, steps: int, sampler: str, decoded: int) -> list[Case]:
    cases: list[Case] = []
    for size in sizes:
        if STEP in whats:
            cases.append(Case(STEP, size))
        if GUIDED in whats:
            cases.append(Case(GUIDED, size))
        if DECODE in whats:
            case = Case(DECODE, replace(size, frames=min(decoded, size.frames)))
            cases += [] if case in cases else [case]
        if END_TO_END in whats:
            cases.append(Case(END_TO_END, size, steps=steps, sampler=sampler))
    return cases + [Case(what, sizes[0]) for what in (START_UP, LOAD) if what in whats]


def versions(contenders: Sequence[str]) -> dict[str, str]:
    """The packages that are measured, and those that they run on."""
    names = [*(PACKAGES[name] for name in contenders if name in PACKAGES), "transformers", "accelerate"]
    return {name: importlib.metadata.version(name) for name in names if importlib.util.find_spec(name) is not None}


def parser() -> argparse.ArgumentParser:
    """All flags."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks compare",
        description="Times ours, Diffusers' pipeline and ModelScope's own code side by side, with the same random "
        "weights and the same steps in alternating runs, and holds each against what this machine can do at most. "
        "Nothing is downloaded; at full size 4 GB of random weights are written into --folder and stay there, or 8 GB "
        "where Diffusers has to load files of its own: for `load`, and for the peak of a whole clip.",
    )
    add = made.add_argument
    add("--device", default=_device(), help="cpu or cuda; default: %(default)s")
    add("--what", type=_some_of(WHATS), help=f"some of {','.join(WHATS)}; default: all, on a CPU without {GUIDED}")
    add("--sizes", type=_sizes, help=f"WIDTHxHEIGHTxFRAMES, several with commas; the usual: {','.join(SIZES)}")
    add(
        "--precisions",
        type=_some_of(ITEM_BYTES),
        help="number formats; default: fp16,bf16 on a GPU, fp32 on a CPU, and bf16 where it multiplies that",
    )
    everybody = (*WAYS, *PEERS)
    add(
        "--contenders",
        type=_some_of(everybody),
        help=f"some of {','.join(everybody)}; default: on a CPU {OURS} alone of ours",
    )
    add("--rounds", type=int, default=3, help="goes of each that count; default: %(default)s")
    add("--steps", type=int, help="of a whole clip; default: 4 on a CPU, 25 on a GPU")
    add("--sampler", choices=("DDIM", "DPM++ 2M"), help="of a whole clip; ModelScope has DDIM alone")
    add("--decode-frames", type=int, default=4, help="how many are decoded; default: %(default)s")
    add("--memory", choices=MEMORY, default=AUTO, help="how ours saves memory; default: %(default)s")
    add("--no-memory", action="store_true", help="leave out the peaks, which need a process for each")
    add("--time", type=float, default=60, help="minutes: what doesn't fit is skipped or gets fewer rounds; default: 60")
    add("--threads", type=int, default=0, help="of a CPU; default: torch's own choice")
    add("--small", action="store_true", help="a tiny network, to try the bench itself")
    add("--folder", type=Path, help="where the random weights lie; default: build/compare/full")
    add("--json", type=Path, help="the file for the figures; default: build/compare/results.json")
    add("--write-docs", action="store_true", help="keep the figures in docs/measurements, and write the page again")
    add("--only-docs", action="store_true", help="measure nothing, write docs/performance.md again")
    return made


def _some_of(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    def several(text: str) -> tuple[str, ...]:
        names = tuple(part.strip() for part in text.split(","))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return several


def _sizes(text: str) -> list[Size]:
    return [parse_size(part) for part in text.split(",")]


def _of_processor() -> tuple[str, ...]:
    from t2v_core.rendering.devices import traits_of

    return tuple(name for name in ("fp32", "bf16") if name in traits_of("cpu").computes)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
