"""Says what a clip shows by plain image processing: ground, colour, shape, direction, or None where it can't tell."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.demo_model.clips import COLOURS, DIRECTIONS, GROUNDS, SHAPES, Scene, signed_distance

ATTRIBUTES = ("colour", "ground", "shape", "direction")
CONTRAST = 60.0  # distance in RGB at which a pixel no longer belongs to the ground
TEMPLATE = 48  # pixels a side to which a shape is brought before it is compared
FIT = 0.7  # overlap with its template that a shape must reach
AREA = (0.004, 0.4)  # a shape's share of the picture at 64 to 128 pixels
TRAVEL = 4.0  # pixels that a shape must move over the clip


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge sees; None for what it can't make out."""

    colour: str | None = None
    ground: str | None = None
    shape: str | None = None
    direction: str | None = None

    def agrees(self, scene: Scene) -> dict[str, bool]:
        """Attribute by attribute, whether the clip shows what the scene says."""
        seen, said = asdict(self), asdict(scene)
        return {name: seen[name] == said[name] for name in ATTRIBUTES}


def judge(frames: NDArray[np.uint8]) -> Verdict:
    """The verdict on a clip of (frames, height, width, 3) RGB with one shape over a flat ground."""
    border = np.concatenate([frames[:, :3].reshape(-1, 3), frames[:, -3:].reshape(-1, 3)])
    ground = np.median(border, axis=0)
    masks = [_largest_part(np.linalg.norm(frame - ground, axis=-1) > CONTRAST) for frame in frames]
    found = [index for index, mask in enumerate(masks) if AREA[0] < mask.mean() < AREA[1]]
    named_ground = _nearest(GROUNDS, ground)
    if len(found) < max(2, len(frames) // 2):
        return Verdict(ground=named_ground)
    inside = np.concatenate([frames[i][_core(masks[i])] for i in found])
    return Verdict(
        colour=_nearest(COLOURS, np.median(inside, axis=0)),
        ground=named_ground,
        shape=_shape([masks[i] for i in found]),
        direction=_direction(np.array(found), [masks[i] for i in found]),
    )


def _nearest(palette: dict[str, tuple[int, int, int]], colour: NDArray[np.float64]) -> str | None:
    distances = {name: float(np.linalg.norm(colour - np.array(rgb))) for name, rgb in palette.items()}
    name = min(distances, key=distances.__getitem__)
    return name if distances[name] < CONTRAST else None


def _largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count < 2:
        return np.zeros_like(mask)
    return np.asarray(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def _core(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without its blended edge, or the mask itself where nothing would be left."""
    core = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return core if core.any() else mask


def _shape(masks: list[NDArray[np.bool_]]) -> str | None:
    fits = {name: float(np.mean([_overlap(mask, _template(name)) for mask in masks])) for name in SHAPES}
    name = max(fits, key=fits.__getitem__)
    return name if fits[name] > FIT else None


def _overlap(mask: NDArray[np.bool_], template: NDArray[np.bool_]) -> float:
    """Intersection over union after the mask's bounding box is stretched to the template's."""
    seen = _cropped(mask)
    return float((seen & template).sum() / (seen | template).sum())


def _cropped(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    return np.asarray(cv2.resize(box, (TEMPLATE, TEMPLATE), interpolation=cv2.INTER_LINEAR) > 0.5)


@cache
def _template(shape: str) -> NDArray[np.bool_]:
    axis = np.arange(-TEMPLATE, TEMPLATE, dtype=np.float32) + np.float32(0.5)
    return _cropped(signed_distance(shape, axis[None, :], axis[:, None], radius=TEMPLATE / 2) < 0)


def _direction(times: NDArray[np.int_], masks: list[NDArray[np.bool_]]) -> str | None:
    """The axis direction along which the shape's middle moves, by a straight line fitted through the frames."""
    middles = np.array([np.argwhere(mask).mean(axis=0)[::-1] for mask in masks])
    travel = np.polyfit(times, middles, 1)[0] * (times[-1] - times[0])
    along = {name: float(travel @ np.array(heading)) for name, heading in DIRECTIONS.items()}
    name = max(along, key=along.__getitem__)
    across = float(np.abs(travel).min())
    return name if along[name] > max(TRAVEL, 2 * across) else None
