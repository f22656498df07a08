"""Whether a clip shows the colour of each of its prompt's key frames; `python -m benchmarks.demo_model.key_frames`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.demo_model.clips import COLOURS, DIRECTIONS, GROUNDS, SHAPES
from benchmarks.demo_model.judge import judge
from t2v_core.hosts.standalone import StandaloneHost
from t2v_core.models.catalogue import DEMO
from t2v_core.prompts.script import BLENDS
from t2v_core.rendering.local import LocalRenderer
from t2v_core.request import GenerationRequest
from t2v_core.run import Run

GROUNDS_USED = ("black", "gray", "white")


@dataclass(frozen=True, slots=True)
class Told:
    """One clip's prompt, and which colour it names at which frame."""

    prompt: str
    colours: dict[int, str]


def prompts(count: int, *, keys: int, frames: int, seed: int) -> Iterator[Told]:
    """Prompts whose key frames lie evenly from the first frame to the last, each with another colour."""
    rng = np.random.default_rng(seed)
    places = [round(key * (frames - 1) / (keys - 1)) for key in range(keys)]
    for _ in range(count):
        names = rng.choice([name for name in COLOURS if name not in GROUNDS_USED], keys, replace=False)
        ground, shape, way = (str(rng.choice(list(of))) for of in (GROUNDS_USED, SHAPES, DIRECTIONS))
        assert ground in GROUNDS
        colours = {place: str(name) for place, name in zip(places, names, strict=True)}
        lines = [f"{place}: a {name} {shape} moving {way} on a {ground} background" for place, name in colours.items()]
        yield Told("\n".join(lines), colours)


def main() -> None:
    """Print each clip's colours and the share of the key frames that are right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--keys", type=int, default=3)
    parser.add_argument("--blend", choices=BLENDS, default=BLENDS[0])
    parser.add_argument("--seed", type=int, default=2)
    asked = parser.parse_args()
    renderer = LocalRenderer(StandaloneHost(device_name="cpu"))
    request = GenerationRequest(model=DEMO, frames=asked.frames, prompt_blend=asked.blend)
    right = 0
    told = prompts(asked.clips, keys=asked.keys, frames=asked.frames, seed=asked.seed)
    for index, each in enumerate(told):
        wanted = replace(request, prompt=each.prompt, seed=100 + index)
        frames = renderer.render(renderer.resolve(wanted), Run()).frames[:]
        # The judge looks at clips: a frame twice is one that stands still.
        seen = {place: judge(np.repeat(frames[place : place + 1], 2, axis=0)).colour for place in each.colours}
        right += sum(seen[place] == colour for place, colour in each.colours.items())
        print(index, {place: (colour, seen[place]) for place, colour in each.colours.items()}, flush=True)
    total = asked.clips * asked.keys
    print(f"{right} of {total} key frames show their colour: {100 * right / total:.1f} %")


if __name__ == "__main__":
    main()
