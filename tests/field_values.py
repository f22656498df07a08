"""A value for each field that a recipe holds, other than the field's default, in groups that go together."""

from __future__ import annotations

from typing import Any

PLAIN: dict[str, Any] = {
    "prompt": 'a "red" ball, moving: left\non a (black:1.2) background',
    "negative_prompt": "Steps: 3, blurry",
    "lora": "mcm, style:0.5",
    "steps": 7,
    "sampler": "DDIM",
    "schedule": "Karras",
    "cfg_scale": 5.5,
    "guidance_rescale": 0.35,
    "eta": 0.4,
    "seed": 4294967295,
    "width": 72,
    "height": 56,
    "frames": 5,
    "fps": 11,
    "reuse_features": 2,
    "guidance_until": 0.5,
    "merge_tokens": 0.25,
    "attention_window": 3,
    "precision": "fp32",
    "vae_precision": "fp16",
    "attention": "plain",
    "split_guidance": True,
}
"""What the model does with a prompt, in one piece."""

WITH_FILES: dict[str, Any] = {
    "source": "/clips/a, b: c.mp4",
    "source_start": 1.5,
    "source_end": 9.2,
    "strength": 0.3,
    "fit": "pad",
    "mask": 'C:\\masks\\my "best".png',
    "mask_keeps": True,
    "mask_grow": -3,
    "mask_feather": 12,
    "first_frame": "一.png",
    "last_frame": "/tmp/last.jpg",
    "anchors": "8: a.png @ 0.7; 75%: b.png",
    "anchor_fade": 4,
    "continue_from": "old.mp4",
    "continue_frames": 6,
    "join": True,
    "match_colors": False,
    "prompt_blend": "cut",
    "refine": 1.5,
    "refine_strength": 0.25,
    "refine_steps": 9,
    "refine_model": "zeroscope, XL",
    "upscale": 1.25,
    "upscaler": "Another",
    "ping_pong": True,
    "output_fps": 20,
    "interpolation": "blend",
    "sound": "/clips/song.mp3",
    "sound_fit": "loop",
}
"""What may be asked for beside it: other files, a second pass, and what is done to finished frames."""

IN_PIECES: dict[str, Any] = {"window": 4, "window_overlap": 2, "loop": True, "fill_in": 1, "tile": 64}
"""What cuts a clip into pieces, or makes a loop of it: not all of it goes with the files."""

GRID: dict[str, Any] = {"over": "steps=2,3; cfg_scale=4"}
DRAFTS: dict[str, Any] = {"drafts": 3, "draft_steps": 2}
