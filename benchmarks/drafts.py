"""How true a draft is to its clip, on the demo model: `python -m benchmarks drafts`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.demo_model.captions import draw_caption, draw_scene
from benchmarks.demo_model.judge import judge
from benchmarks.shortcuts.demo import psnr
from t2v_core.hosts.standalone import StandaloneHost
from t2v_core.models.catalogue import DEMO
from t2v_core.rendering.local import LocalRenderer
from t2v_core.request import GenerationRequest
from t2v_core.run import Run
from t2v_core.video import Frames

SEED = 7
VARIANTS: dict[str, dict[str, Any]] = {
    "4 steps": {"steps": 4},
    "4 steps, Trailing": {"steps": 4, "schedule": "Trailing"},
    "6 steps": {"steps": 6},
    "8 steps": {"steps": 8},
    "8 steps, Trailing": {"steps": 8, "schedule": "Trailing"},
    "8 steps, Karras": {"steps": 8, "schedule": "Karras"},
    "8 steps, speed Draft": {"steps": 8, "speed": "Draft"},
}
"""What a draft may be; the clip has the model's own steps and schedule."""


def main(arguments: list[str]) -> int:
    """Print a line for each variant: dB against the clip, how many are judged as it is, and the ratio of the times."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks drafts", description=__doc__)
    parser.add_argument("--captions", type=int, default=12, metavar="N", help="how many clips (default: 12)")
    parser.add_argument("--sampler", default="DPM++ 2M", metavar="TEXT", help="of the clips and their drafts")
    options = parser.parse_args(arguments)
    renderer = LocalRenderer(StandaloneHost(device_name="cpu"))
    renderer.render(renderer.resolve(GenerationRequest(model=DEMO, steps=1)), Run())  # loads the model
    found: dict[str, list[tuple[float, bool, float]]] = {name: [] for name in VARIANTS}
    for number, caption in enumerate(_captions(options.captions)):
        asked: dict[str, Any] = {"prompt": caption, "model": DEMO, "seed": 500 + number, "sampler": options.sampler}
        clip, whole = _made(renderer, asked)
        for name, changes in VARIANTS.items():
            draft, seconds = _made(renderer, asked | changes)
            found[name].append((psnr(draft, clip), judge(draft) == judge(clip), seconds / whole))
    print(f"{'draft':<24}{'dB':>8}{'the same':>10}{'time':>8}")
    for name, figures in found.items():
        likeness, same, share = (np.array(each, float) for each in zip(*figures, strict=True))
        print(f"{name:<24}{np.median(likeness):>8.1f}{100 * same.mean():>9.0f}%{np.median(share):>8.2f}")
    return 0


def _made(renderer: LocalRenderer, asked: dict[str, Any]) -> tuple[Frames, float]:
    """A clip's frames and the processor's seconds for it."""
    request = renderer.resolve(GenerationRequest(**asked))
    started = time.process_time()
    frames = renderer.render(request, Run()).frames[:]
    return frames, time.process_time() - started


def _captions(count: int) -> Iterator[str]:
    rng = np.random.default_rng(SEED)
    for _ in range(count):
        yield draw_caption(draw_scene(rng, held_out=False), rng, for_training=False)
