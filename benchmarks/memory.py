"""The plan's predicted peak against the measured one, over a grid of shapes: `python -m benchmarks memory`.

Each shape is made in a process of its own, for what one run has touched a process doesn't always give back. On a CPU
the peak is what was resident of the whole process, on a GPU what torch's allocator gave out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from t2v_core.models.modelscope.config import AutoencoderConfig, ModelConfig, TextConfig, UNetConfig
from t2v_core.rendering.measures import MEMORY

SIZES = ((128, 128), (192, 128), (256, 256), (320, 192), (384, 256))
FRAMES = (4, 8, 16, 24)

# A quarter of a billion numbers: weights and activations both count.
MID_SIZE = ModelConfig(
    unet=UNetConfig(dim=128, context_dim=512),
    vae=AutoencoderConfig(dim=64),
    text=TextConfig(width=512, layers=6, heads=8),
)
MODELS = {"mid": MID_SIZE, "full": ModelConfig()}


def main(arguments: list[str]) -> int:
    """Measure, and print a table of the errors."""
    options = _options(arguments)
    if options.one:
        print(json.dumps(_measure(options)))
        return 0
    from benchmarks.compare.options import FOLDER
    from benchmarks.compare.weights import ORIGINAL, write

    folder = (options.folder or FOLDER / options.model).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, MODELS[options.model], [ORIGINAL])
    rows = []
    print("| clip | measures | predicted | measured | error |\n|---|---|---|---|---|", flush=True)
    for shape in options.shapes or [f"{w}x{h}x{f}" for w, h in SIZES for f in FRAMES]:
        row = _in_a_process_of_its_own(shape, options, folder)
        rows.append(row)
        print(
            f"| {shape} | {row['rung']} | {row['predicted'] / 1e9:.2f} GB | {row['measured'] / 1e9:.2f} GB "
            f"| {_error(row):+.1%} |",
            flush=True,
        )
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(f"\nLargest error: {max(abs(_error(row)) for row in rows):.1%} over {len(rows)} shapes")
    return 0


def _error(row: dict[str, float]) -> float:
    return row["predicted"] / row["measured"] - 1


def _in_a_process_of_its_own(shape: str, options: argparse.Namespace, folder: Path) -> dict[str, float]:
    from benchmarks.compare.processes import environment

    command = [sys.executable, "-m", "benchmarks.memory", shape, "--one", "--folder", str(folder)]
    for name in ("device", "precision", "memory"):
        command += [f"--{name}", getattr(options, name)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment(folder))
    return json.loads(done.stdout.splitlines()[-1])


def _measure(options: argparse.Namespace) -> dict[str, object]:
    from benchmarks.compare import memory
    from benchmarks.compare.weights import ORIGINAL
    from t2v_core.hosts.standalone import StandaloneHost
    from t2v_core.rendering.local import LocalRenderer
    from t2v_core.request import GenerationRequest
    from t2v_core.run import Run

    width, height, frames = map(int, options.shapes[0].split("x"))
    request = GenerationRequest(
        prompt="a red ball", model=str(options.folder / ORIGINAL), seed=1, steps=3, width=width, height=height,
        frames=frames, precision=options.precision, memory=options.memory,
    )  # fmt: skip
    renderer = LocalRenderer(StandaloneHost(None, options.device))
    resolved = renderer.resolve(request)
    told = renderer.forecast(resolved)
    memory.forget_peak(options.device)
    with renderer.session():
        renderer.render(resolved, Run())
    return {
        "shape": options.shapes[0],
        "rung": ", ".join(told.measures) or "all on the device",
        "predicted": told.peak,
        "measured": memory.peak(options.device),
        "weights": told.weights,
    }


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=__doc__)
    parser.add_argument(
        "shapes",
        nargs="*",
        type=_shape,
        metavar="WIDTHxHEIGHTxFRAMES",
        help="clips to measure; by default a grid of 20",
    )
    parser.add_argument("--model", choices=MODELS, default="mid", help="random weights of this size")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--memory", choices=MEMORY, default="auto", help="the measures to take")
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the random model lies, or is to be written; default: build/compare/full, as for `compare`, or mid",
    )
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _shape(text: str) -> str:
    from benchmarks.compare.sizes import parse_size

    return parse_size(text).name


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
