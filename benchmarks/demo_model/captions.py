"""A small English grammar that says what a scene shows, in several word orders and with synonyms."""

from __future__ import annotations

from zlib import crc32

import numpy as np

from benchmarks.demo_model.clips import SCENES, Scene

COLOUR_WORDS = {
    "red": ("red", "red", "crimson", "scarlet"),
    "green": ("green", "green", "emerald"),
    "blue": ("blue", "blue", "azure"),
    "yellow": ("yellow", "yellow", "golden"),
    "purple": ("purple", "purple", "violet"),
    "white": ("white", "white", "snow-white"),
}
GROUND_WORDS = {
    "black": ("black", "black", "pitch-black"),
    "white": ("white", "white", "plain white"),
    "gray": ("gray", "grey"),
    "pink": ("pink", "pink", "rose"),
    "brown": ("brown", "brown", "chocolate"),
}
SHAPE_WORDS = {
    "ball": ("ball", "circle", "disc", "dot"),
    "box": ("box", "square", "block", "cube"),
    "triangle": ("triangle", "triangle", "pyramid", "wedge"),
    "ring": ("ring", "hoop", "donut"),
}
WAYS = {
    "left": ("left", "left", "to the left", "leftwards", "from right to left", "towards the left"),
    "right": ("right", "right", "to the right", "rightwards", "from left to right", "towards the right"),
    "up": ("up", "up", "upwards", "to the top", "from bottom to top", "towards the top"),
    "down": ("down", "down", "downwards", "to the bottom", "from top to bottom", "towards the bottom"),
}
MOVING = ("moving", "going", "gliding", "drifting", "sliding", "travelling", "flying", "rolling", "floating")
MOVES = ("moves", "goes", "glides", "drifts", "slides", "travels", "flies", "rolls", "floats")
BACKGROUNDS = ("background", "background", "backdrop", "ground", "screen")
OVER = ("on", "on", "over", "against", "in front of")
ARTICLES = ("a", "a", "a", "the", "one", "a small", "a big", "a bright")
OPENINGS = ("", "", "", "", "a video of ", "a clip of ", "animation of ")
MANNERS = ("", "", "", "", "slowly ", "smoothly ", "quickly ", "steadily ")
# {s} the shape with its colour, {g} the ground, {w} the way, {ing} moving, {es} moves, {m} the manner
ORDERS = (
    "{s} {m}{ing} {w} {over} a {g} {bg}",
    "{s} {m}{ing} {w} {over} a {g} {bg}",
    "{s} {m}{es} {w} {over} a {g} {bg}",
    "{s} {over} a {g} {bg} {m}{ing} {w}",
    "{over} a {g} {bg}, {s} {m}{es} {w}",
    "a {g} {bg} with {s} {m}{ing} {w}",
    "{m}{ing} {w}: {s} {over} a {g} {bg}",
    "{w} {es} {s}, {over} {g}",
    "{s} {ing} {w} {over} {g}",
    "{s}, {ing} {w}, {g} {bg}",
    "{g} {bg}, {s}, {ing} {w}",
    "{g} {bg} and {s} that {es} {w}",
)


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One of the many ways to say what the scene shows."""

    def pick(words: tuple[str, ...]) -> str:
        return words[rng.integers(len(words))]

    colour, shape = pick(COLOUR_WORDS[scene.colour]), pick(SHAPE_WORDS[scene.shape])
    subject = f"{shape} that is {colour}" if rng.random() < 0.1 else f"{colour} {shape}"
    text = pick(ORDERS).format(
        s=f"{pick(ARTICLES)} {subject}" if rng.random() < 0.9 else subject,
        g=pick(GROUND_WORDS[scene.ground]),
        w=pick(WAYS[scene.direction]),
        ing=pick(MOVING),
        es=pick(MOVES),
        m=pick(MANNERS),
        over=pick(OVER),
        bg=pick(BACKGROUNDS),
    )
    text = (pick(OPENINGS) if text.startswith(("a ", "the ", "one ")) else "") + text
    if rng.random() < 0.3:
        text = text[0].upper() + text[1:]
    return text + "." if rng.random() < 0.3 else text


def unseen(text: str) -> bool:
    """Whether training must never see this caption: a tenth of all, by a fixed rule."""
    return crc32(text.encode()) % 10 == 0


def draw_scene(rng: np.random.Generator, *, held_out: bool) -> Scene:
    """A scene from the held-out combinations, or from those that training may see; every attribute as likely."""
    while True:
        scene = SCENES[rng.integers(len(SCENES))]
        if scene.held_out == held_out:
            return scene


def draw_caption(scene: Scene, rng: np.random.Generator, *, for_training: bool) -> str:
    """A caption of the scene that training may see, or one that it never saw."""
    while True:
        text = caption(scene, rng)
        if unseen(text) != for_training:
            return text
