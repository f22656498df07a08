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


def found() -> Mapping[str, Upscaler]:
    """Each by the name that the WebUI shows; what was put into its models folder is there after a restart."""
    return {
        each.name: functools.partial(_upscaled, each)
        for each in shared.sd_upscalers
        if each.name.lower() not in _LEFT_OUT
    }


def _upscaled(data: Any, frame: Frames, width: int, height: int) -> Frames:
    """A frame (h, w, 3) at about that size: the WebUI rounds to multiples of 8."""
    scale = max(width / frame.shape[1], height / frame.shape[0])
    picture = data.scaler.upscale(Image.fromarray(frame), scale, data.data_path)
    return np.asarray(picture.convert("RGB"))
