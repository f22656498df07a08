"""The shortcuts on the demo model: time and likeness of each clip, and whether it still shows what its caption says."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.demo_model.captions import draw_caption, draw_scene
from benchmarks.demo_model.clips import Scene
from benchmarks.demo_model.judge import ATTRIBUTES, judge
from benchmarks.shortcuts.variants import Changes
from t2v_core.hosts.standalone import StandaloneHost
from t2v_core.models.catalogue import DEMO
from t2v_core.rendering.local import LocalRenderer
from t2v_core.request import GenerationRequest
from t2v_core.run import Run
from t2v_core.speed import EXACT
from t2v_core.video import Frames

SEED = 7
LIKE_ENOUGH = 100.0
"""The ratio in dB that stands for equal frames, whose own is infinite."""


@dataclass(frozen=True, slots=True)
class OnDemo:
    """One variant: time against exact (median over the clips), dB against its frames, per cent of captions obeyed."""

    time_ratio: float
    psnr: float
    right: dict[str, float]


def on_demo(count: int, variants: Mapping[str, Changes], **settings: int) -> dict[str, OnDemo]:
    """Make `count` clips of unseen captions with every variant in turn; `settings` are of all of them, as the steps."""
    renderer = LocalRenderer(StandaloneHost(device_name="cpu"))
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    likeness: dict[str, list[float]] = {name: [] for name in variants}
    right = {name: Counter[str]() for name in variants}
    renderer.render(renderer.resolve(GenerationRequest(model=DEMO, steps=1)), Run())  # loads the model
    for index, (caption, scene) in enumerate(_captions(count)):
        clips: dict[str, Frames] = {}
        # Another first one each time, so that none always runs after the same.
        names = np.roll(list(variants), index).tolist()
        for name in names:
            asked = GenerationRequest(prompt=caption, model=DEMO, seed=1000 * SEED + index, **settings)  # type: ignore[arg-type]
            request = renderer.resolve(GenerationRequest(**{**asdict(asked), **variants[name]}))
            started = time.process_time()
            clips[name] = renderer.render(request, Run()).frames[:]
            seconds[name].append(time.process_time() - started)
        for name, frames in clips.items():
            likeness[name].append(psnr(frames, clips[EXACT]))
            agrees = judge(frames).agrees(scene)
            right[name].update([key for key in ATTRIBUTES if agrees[key]] + ["all"] * all(agrees.values()))
    exact = np.array(seconds[EXACT])
    return {
        name: OnDemo(
            time_ratio=round(float(np.median(np.array(seconds[name]) / exact)), 3),
            psnr=round(float(np.median(likeness[name])), 1),
            right={key: round(100 * right[name][key] / count, 1) for key in (*ATTRIBUTES, "all")},
        )
        for name in variants
    }


def psnr(frames: Frames, others: Frames) -> float:
    """The peak signal-to-noise ratio of two clips in dB."""
    error = float(np.mean((frames.astype(np.float64) - others) ** 2))
    return LIKE_ENOUGH if error == 0 else min(LIKE_ENOUGH, 10 * float(np.log10(255**2 / error)))


def _captions(count: int) -> Iterator[tuple[str, Scene]]:
    rng = np.random.default_rng(SEED)
    for _ in range(count):
        scene = draw_scene(rng, held_out=False)
        yield draw_caption(scene, rng, for_training=False), scene
