"""Draws the demo model's world: one anti-aliased coloured shape that moves steadily over a coloured ground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 40, 40),
    "green": (40, 175, 60),
    "blue": (45, 80, 230),
    "yellow": (250, 220, 40),
    "purple": (150, 45, 190),
    "white": (250, 250, 250),
}
GROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (10, 10, 10),
    "white": (250, 250, 250),
    "gray": (128, 128, 128),
    "pink": (250, 175, 195),
    "brown": (105, 65, 35),
}
SHAPES = ("ball", "box", "triangle", "ring")
DIRECTIONS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}

RADIUS = (11.5, 14.5)  # pixels
SPEED = (2.6, 3.6)  # pixels a frame
OFFSET = 5.0  # pixels, along each axis, by which the middle of a path may miss the middle of the picture
REACH = 1.15  # a shape's farthest point from its centre, in radii


@dataclass(frozen=True, slots=True)
class Scene:
    """What a caption says: one shape in one colour, moving one way, over one ground."""

    colour: str
    shape: str
    direction: str
    ground: str

    @property
    def held_out(self) -> bool:
        """Whether training must never see this (colour, shape, direction): a fifth of them, spread over each."""
        colour, shape = list(COLOURS).index(self.colour), SHAPES.index(self.shape)
        return (colour + 2 * shape + 3 * list(DIRECTIONS).index(self.direction)) % 5 == 0


SCENES = tuple(
    Scene(colour, shape, direction, ground)
    for colour in COLOURS
    for shape in SHAPES
    for direction in DIRECTIONS
    for ground in GROUNDS
    if colour != ground
)


@dataclass(frozen=True, slots=True)
class Canvas:
    """A clip's size: frames, and the side of its square picture in pixels."""

    frames: int = 8
    side: int = 64


def draw(scene: Scene, canvas: Canvas, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A clip of the scene, (frames, side, side, 3) RGB; random in size, place and speed, never out of the picture."""
    radius = rng.uniform(*RADIUS)
    low = REACH * radius + 2
    room = canvas.side - 2 * low
    speed = min(rng.uniform(*SPEED), room / max(1, canvas.frames - 1))
    heading = np.array(DIRECTIONS[scene.direction], dtype=np.float64)
    travel = heading * speed * (canvas.frames - 1)
    slack = np.minimum(OFFSET, (room - np.abs(travel)) / 2)
    start = canvas.side / 2 + rng.uniform(-slack, slack) - travel / 2
    centres = start + heading * speed * np.arange(canvas.frames)[:, None]
    return _paint(scene, centres=centres, radius=radius, side=canvas.side)


def _paint(scene: Scene, *, centres: NDArray[np.float64], radius: float, side: int) -> NDArray[np.uint8]:
    axis = np.arange(side, dtype=np.float32) + np.float32(0.5)
    x = (axis[None, :] - centres[:, :1].astype(np.float32))[:, None, :]
    y = (axis[None, :] - centres[:, 1:].astype(np.float32))[:, :, None]
    cover = np.clip(0.5 - signed_distance(scene.shape, x, y, radius=radius), 0, 1)[..., None]
    ground = np.array(GROUNDS[scene.ground], dtype=np.float32)
    change = np.array(COLOURS[scene.colour], dtype=np.float32) - ground
    return (ground + cover * change + 0.5).astype(np.uint8)


def signed_distance(
    shape: str, x: NDArray[np.float32], y: NDArray[np.float32], *, radius: float
) -> NDArray[np.float32]:
    """Pixels to the outline of a shape centred at 0, negative inside; x and y (downwards) broadcast."""
    r = np.float32(radius)
    if shape == "ball":
        return np.hypot(x, y) - r
    if shape == "ring":
        return np.abs(np.hypot(x, y) - np.float32(0.75) * r) - np.float32(0.25) * r
    if shape == "box":
        return np.maximum(np.abs(x), np.abs(y)) - np.float32(0.8) * r
    if shape == "triangle":
        inradius = np.float32(REACH / 2) * r
        sides = np.float32(np.sqrt(0.75)) * np.abs(x) - np.float32(0.5) * y
        return np.maximum(sides, y) - inradius
    raise ValueError(f"no such shape: {shape!r}; there are {', '.join(SHAPES)}")
