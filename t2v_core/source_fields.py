"""The fields of a request that say which pictures and videos a clip starts from."""

from __future__ import annotations

from dataclasses import dataclass

from t2v_core.fields import spec

GROUP = "Source"
FITS = ("crop", "pad", "stretch")
"""How a picture of another shape comes to the clip's size."""


@dataclass(frozen=True, kw_only=True)
class SourceFields:
    """Paths are of files on this machine, as a person types them; "" where there is none.

    Without slots, so that a request can have several such groups as bases.
    """

    source: str = spec(
        "",
        "Source",
        "A video or picture to start from, repainted as strongly as Strength says. Frames, rate and size that are left "
        "open are the source's.",
        infotext="Source",
        group=GROUP,
    )
    source_start: float = spec(
        0.0,
        "Source start",
        "Where in the source to begin, in seconds.",
        infotext="Source start",
        minimum=0,
        maximum=86400,
        usual=60,
        step=0.1,
        group=GROUP,
        off=0,
    )
    source_end: float = spec(
        0.0,
        "Source end",
        "Where in the source to end, in seconds; 0 is its own end.",
        infotext="Source end",
        minimum=0,
        maximum=86400,
        usual=60,
        step=0.1,
        group=GROUP,
        off=0,
    )
    strength: float = spec(
        0.75,
        "Strength",
        "How much of the source is made anew: 0 leaves it, 1 sees nothing of it. The share of the steps that are done.",
        infotext="Source strength",
        minimum=0,
        maximum=1,
        step=0.05,
        group=GROUP,
    )
    fit: str = spec(
        "crop",
        "Fit",
        "How pictures of another shape come to the clip's size. crop: the edges are cut off. pad: black bars. stretch: "
        "the shape changes.",
        infotext="Fit",
        chosen=True,
        group=GROUP,
    )
    mask: str = spec(
        "",
        "Mask",
        "A picture or video that is white where the source may change and black where it stays; or painted strokes on "
        "a transparent picture.",
        infotext="Mask",
        group=GROUP,
    )
    mask_keeps: bool = spec(
        False,
        "Mask keeps",
        "The marked region stays and the rest changes.",
        infotext="Mask keeps",
        group=GROUP,
    )
    mask_grow: int = spec(
        0,
        "Mask grow",
        "Makes the marked region larger by so many pixels on each side; below 0 smaller.",
        infotext="Mask grow",
        minimum=-256,
        maximum=256,
        step=1,
        group=GROUP,
        off=0,
    )
    mask_feather: int = spec(
        0,
        "Mask feather",
        "Over so many pixels, inside the edge of what changes, old and new blend. What stays is exact all the same.",
        infotext="Mask feather",
        minimum=0,
        maximum=256,
        usual=64,
        step=1,
        group=GROUP,
        off=0,
    )
    first_frame: str = spec(
        "", "First frame", "A picture that the clip begins with.", infotext="First frame", group=GROUP
    )
    last_frame: str = spec("", "Last frame", "A picture that the clip ends with.", infotext="Last frame", group=GROUP)
    anchors: str = spec(
        "",
        "Anchors",
        'Pictures at more places, as in "8: a.png @ 0.7; 75%: b.png; 2s: c.png": a frame counted from 0, a share or '
        "seconds, and how strictly it holds, from 0 to 1.",
        infotext="Anchors",
        group=GROUP,
    )
    anchor_fade: int = spec(
        0,
        "Anchor fade",
        "Over so many frames beside it an anchor lets go; 0 holds its own frame alone.",
        infotext="Anchor fade",
        minimum=0,
        maximum=256,
        usual=32,
        step=1,
        group=GROUP,
        off=0,
    )
    continue_from: str = spec(
        "",
        "Continue from",
        "A clip to carry on: its last frames are the new clip's first ones.",
        infotext="Continue from",
        group=GROUP,
    )
    continue_frames: int = spec(
        4,
        "Continue frames",
        "How many of its last frames: more carry the movement on, and leave less room for new ones.",
        infotext="Continue frames",
        minimum=1,
        maximum=256,
        usual=16,
        step=1,
        group=GROUP,
    )
    join: bool = spec(
        False,
        "Join",
        "The saved file holds the clip that is carried on, and then the new frames.",
        infotext="Join",
        group=GROUP,
    )
    match_colors: bool = spec(
        True,
        "Match colors",
        "Takes back what the model does to the colors of given first, last and other pictures, so that no seam shows.",
        infotext="Match colors",
        group=GROUP,
    )
