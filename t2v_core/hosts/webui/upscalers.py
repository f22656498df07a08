"""The WebUI's upscalers, ESRGAN and its kin, as functions of one frame."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from modules import shared
from PIL import Image

from t2v_core.host import Upscaler
from t2v_core.video import Frames

_LEFT_OUT = ("none", "lanczos")
"""One does nothing, the other is ours everywhere."""

_ROUNDS = 3
"""How often the WebUI lets an upscaler enlarge what it made, until that is large enough."""


def found() -> Mapping[str, Upscaler]:
    """Each by the name that the WebUI shows; what was put into its models folder is there after a restart."""
    return {
        each.name: functools.partial(_upscaled, each)
        for each in shared.sd_upscalers
        if each.name.lower() not in _LEFT_OUT
    }


def _upscaled(data: Any, frame: Frames, width: int, height: int) -> Frames:
    """A frame (h, w, 3) at that size or a larger one: an upscaler has factors of its own.

    Raises:
        RuntimeError: it gave the frame back as it was, which the WebUI's own loop would pass over in silence.
    """
    scaler, picture = data.scaler, Image.fromarray(frame)
    scaler.scale = max(width / picture.width, height / picture.height)  # for those that know any factor
    for _ in range(_ROUNDS):
        if picture.width >= width and picture.height >= height:
            break
        before, picture = picture, scaler.do_upscale(picture, data.data_path)
        if picture.size == before.size:
            raise RuntimeError("it couldn't be loaded; the console says why")
    return np.asarray(picture.convert("RGB"))
