"""Frames in between against the true ones: `python -m benchmarks interpolation`.

Clips of the demo model's world are drawn at a high rate, every second, third or fourth frame is kept, and each method
makes the others again. ffmpeg's motion-compensated filter is measured beside our own methods.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from benchmarks.demo_model.clips import SCENES, Canvas, draw
from t2v_core.media.ffmpeg import executable
from t2v_core.postprocess import INTERPOLATIONS, Footage, Means, process
from t2v_core.request import GenerationRequest
from t2v_core.video import Frames

FPS = 8
SEED = 5
CASES = ((64, 2), (64, 4), (256, 2), (256, 4))
"""A picture's side in pixels, and every how many-th frame is kept."""

MINTERPOLATE = "mi_mode=mci:mc_mode=aobmc:me_mode=bidir:me=epzs:vsbmc=1:scd=fdiff"


def main(arguments: list[str]) -> int:
    """Print a line for each case and method: dB against the truth, the worst clip's, and the processor's time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks interpolation", description=__doc__)
    parser.add_argument("--clips", type=int, default=24, metavar="N", help="how many clips a case (default: 24)")
    options = parser.parse_args(arguments)
    methods: dict[str, Callable[[Frames, int], Frames]] = {name: _ours(name) for name in INTERPOLATIONS}
    methods["minterpolate"] = _minterpolate
    print(f"{'case':<22}{'method':<16}{'dB':>8}{'worst':>8}{'ms/frame':>10}")
    for side, every in CASES:
        likeness: dict[str, list[float]] = {name: [] for name in methods}
        seconds = dict.fromkeys(methods, 0.0)
        for truth in _clips(options.clips, side=side, every=every):
            for name, method in methods.items():
                started = _processor_time()
                made = method(truth[::every], every)
                seconds[name] += (_processor_time() - started) / (len(truth) - len(truth[::every]))
                likeness[name].append(_between(made, truth, every))
        for name in methods:
            case = f"{side}x{side}, 1 of {every}"
            cost = 1000 * seconds[name] / options.clips
            print(f"{case:<22}{name:<16}{np.median(likeness[name]):>8.1f}{min(likeness[name]):>8.1f}{cost:>10.1f}")
    return 0


def _clips(count: int, *, side: int, every: int) -> list[Frames]:
    """Clips of 5 frames that are kept, and those between them."""
    rng = np.random.default_rng(SEED)
    scenes = [SCENES[index] for index in rng.choice(len(SCENES), count, replace=False)]
    return [draw(scene, Canvas(frames=4 * every + 1, side=side), rng) for scene in scenes]


def _ours(name: str) -> Callable[[Frames, int], Frames]:
    def made(kept: Frames, every: int) -> Frames:
        request = GenerationRequest(output_fps=float(FPS * every), interpolation=name)
        return process(Footage(kept, Fraction(FPS)), request, Means()).frames[:]

    return made


def _minterpolate(kept: Frames, every: int) -> Frames:
    """ffmpeg's filter; it leaves out the last frames, so the last one is given to it some times more."""
    _, height, width, _ = kept.shape
    padded = np.concatenate([kept, *[kept[-1:]] * 3])
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24"]
    command = [executable(), "-v", "error", *raw, "-s", f"{width}x{height}", "-r", str(FPS), "-i", "pipe:0"]
    command += ["-vf", f"minterpolate=fps={FPS * every}:{MINTERPOLATE}", *raw, "pipe:1"]
    done = subprocess.run(command, input=padded.tobytes(), capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)


def _processor_time() -> float:
    """Seconds that the processor has worked for us and for the processes that have ended, whoever else was busy."""
    return sum(os.times()[:4])


def _between(made: Frames, truth: Frames, every: int) -> float:
    """dB of the new frames alone, at the offset in time that is kindest."""
    places = [index for index in range(len(truth)) if index % every]
    best = -np.inf
    for offset in range(-every, every + 1):
        if max(places) + offset < len(made) and min(places) + offset >= 0:
            shown = made[[place + offset for place in places]].astype(np.float64)
            error = float(np.mean((shown - truth[places]) ** 2))
            best = max(best, 10 * float(np.log10(255**2 / max(error, 1e-3))))
    return best


if __name__ == "__main__":
    raise SystemExit(main([]))
