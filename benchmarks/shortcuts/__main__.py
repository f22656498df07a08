"""`python -m benchmarks.shortcuts`: what each shortcut gains and what it costs, as JSON and as a table."""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
from pathlib import Path
from typing import Any

import torch

from benchmarks.demo_model.judge import ATTRIBUTES
from benchmarks.shortcuts.attentions import of_attentions
from benchmarks.shortcuts.demo import on_demo
from benchmarks.shortcuts.network import Clip, on_network
from benchmarks.shortcuts.variants import VARIANTS, distinct
from t2v_core.models.modelscope.config import UNetConfig
from t2v_core.speed import SPEEDS


def main() -> None:
    """Measure what was asked for, print it, and write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shortcuts", description=__doc__)
    parser.add_argument("--captions", type=int, default=60, help="clips of the demo model; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=3, help="runs of the full-size network; 0 leaves it out")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16", help="of that network")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    # Times are the processor's, which other programs disturb less than the clock's, and which one thread makes equal.
    torch.set_num_threads(1)
    dtype = getattr(torch, arguments.precision)
    same = distinct(VARIANTS)
    measured = {name: VARIANTS[name] for name in same.values()}
    figures: dict[str, Any] = {
        "machine": {"processor": platform.processor() or platform.machine()},
        "torch": str(torch.__version__),
        "speeds": {name: dataclasses.asdict(speed) for name, speed in SPEEDS.items()},
    }
    if arguments.captions:
        once = on_demo(arguments.captions, measured)
        found = {name: once[first] for name, first in same.items()}
        figures["demo"] = {name: dataclasses.asdict(row) for name, row in found.items()}
        print(f"\n{'demo model':34}{'time':>7}{'dB':>7}", *(f"{name:>10}" for name in (*ATTRIBUTES, "all")))
        for name, row in found.items():
            right = (f"{value:10.1f}" for value in row.right.values())
            print(f"{name:34}{row.time_ratio:7.2f}{row.psnr:7.1f}", *right)
    if arguments.rounds:
        clip = Clip()
        some = on_network(UNetConfig(), measured, clip=clip, rounds=arguments.rounds, dtype=dtype)
        rows = {name: some[first] for name, first in same.items() if first in some}
        figures["network"] = {
            "clip": dataclasses.asdict(clip),
            "precision": arguments.precision,
            "rows": {name: dataclasses.asdict(row) for name, row in rows.items()},
        }
        print(f"\n{'full size, random weights':34}{'time':>7}{'error':>8}")
        for name, result in rows.items():
            print(f"{name:34}{result.time_ratio:7.2f}{result.error:8.3f}")
        attentions = of_attentions(dtype)
        figures["attentions"] = {name: dataclasses.asdict(row) for name, row in attentions.items()}
        print("\none self-attention of 320 channels")
        for name, ratio in attentions.items():
            print(f"{name:24}{ratio.plain_ms:9.1f} ms", ratio.ratios)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
