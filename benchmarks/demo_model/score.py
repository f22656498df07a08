"""Scores a model on captions that training never saw, and pictures it; `python -m benchmarks.demo_model.score`."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.demo_model.captions import draw_caption, draw_scene
from benchmarks.demo_model.clips import Scene
from benchmarks.demo_model.judge import ATTRIBUTES, judge
from t2v_core.fields import parse
from t2v_core.hosts.standalone import StandaloneHost
from t2v_core.models.catalogue import DEMO
from t2v_core.rendering.local import LocalRenderer
from t2v_core.request import FIELDS, GenerationRequest
from t2v_core.run import Run
from t2v_core.service import CHOICES
from t2v_core.video import Frames

SEED = 7
SHEET_CLIPS, SHEET_FRAMES, SHEET_COLUMNS, SHEET_SIDE = 12, 4, 2, 128


@dataclass(frozen=True, slots=True)
class Score:
    """Per cent of clips that show what their captions say, attribute by attribute, and all at once."""

    clips: int
    right: dict[str, float]
    seconds_a_clip: float


@dataclass(frozen=True, slots=True)
class Sample:
    """A caption, what it says, and the clip that was made of it."""

    caption: str
    scene: Scene
    frames: Frames
    seconds: float


def samples(count: int, *, held_out: bool, request: GenerationRequest, seed: int = SEED) -> Iterator[Sample]:
    """Clips of unseen captions, each with a seed of its own; `request` gives the model and what is not its default."""
    rng = np.random.default_rng(seed + held_out)
    renderer = LocalRenderer(StandaloneHost(device_name="cpu"))
    for index in range(count):
        scene = draw_scene(rng, held_out=held_out)
        caption = draw_caption(scene, rng, for_training=False)
        asked = GenerationRequest(**{**asdict(request), "prompt": caption, "seed": seed * 1000 + index})
        started = time.perf_counter()
        video = renderer.render(renderer.resolve(asked), Run())
        yield Sample(caption, scene, video.frames[:], time.perf_counter() - started)


def score(count: int, *, held_out: bool, request: GenerationRequest, seed: int = SEED) -> Score:
    """Judge that many samples; arguments as `samples`."""
    right, seconds = Counter[str](), 0.0
    for sample in samples(count, held_out=held_out, request=request, seed=seed):
        agrees = judge(sample.frames).agrees(sample.scene)
        right.update([name for name in ATTRIBUTES if agrees[name]] + ["all"] * all(agrees.values()))
        seconds += sample.seconds
    percent = {name: round(100 * right[name] / count, 1) for name in (*ATTRIBUTES, "all")}
    return Score(count, percent, round(seconds / count, 2))


def sheet(path: Path, *, request: GenerationRequest) -> None:
    """A picture of twelve clips, a few frames of each side by side under its caption."""
    rows = [_strip(sample) for sample in samples(SHEET_CLIPS, held_out=False, request=request, seed=SEED + 100)]
    columns = [np.concatenate(rows[start::SHEET_COLUMNS]) for start in range(SHEET_COLUMNS)]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(columns, axis=1)[..., ::-1])


def _strip(sample: Sample) -> Frames:
    chosen = np.linspace(0, len(sample.frames) - 1, SHEET_FRAMES).round().astype(int)
    frames = [cv2.resize(sample.frames[i], (SHEET_SIDE, SHEET_SIDE), interpolation=cv2.INTER_NEAREST) for i in chosen]
    frames = [np.pad(frame, ((2, 8), (4, 4), (0, 0)), constant_values=255) for frame in frames]
    strip = np.concatenate(frames, axis=1)
    title = np.full((22, strip.shape[1], 3), 255, dtype=np.uint8)
    cv2.putText(title, sample.caption[:76], (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (30, 30, 30), 1, cv2.LINE_AA)
    return np.concatenate([title, strip]).astype(np.uint8)


def main() -> None:
    """Print a table, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEMO, help="a model's name or folder")
    parser.add_argument("--count", type=int, default=200, help="clips of combinations that training saw")
    parser.add_argument("--held-out", type=int, default=100, help="clips of combinations that it never saw")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help='fields of the requests, as in "fill_in=2"'
    )
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--sheet", type=Path, help="where to write a picture of twelve clips")
    arguments = parser.parse_args()
    pairs = (pair.partition("=") for pair in arguments.set)
    values = {name: parse(FIELDS[name], text) if name in FIELDS else text for name, _, text in pairs}
    request = GenerationRequest.from_dict({"model": arguments.model, **values}, choices=CHOICES)
    scores: dict[str, dict[str, Any]] = {}
    print(f"{'':24}", *(f"{name:>10}" for name in (*ATTRIBUTES, "all", "s a clip")))
    for name, count in (("unseen captions", arguments.count), ("held-out combinations", arguments.held_out)):
        if count:
            result = score(count, held_out=name.startswith("held"), request=request, seed=arguments.seed)
            scores[name] = asdict(result)
            figures = (*result.right.values(), result.seconds_a_clip)
            print(f"{name:24}", *(f"{figure:10.1f}" for figure in figures), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(scores, indent=4) + "\n", encoding="utf-8")
    if arguments.sheet:
        sheet(arguments.sheet, request=request)


if __name__ == "__main__":
    main()
