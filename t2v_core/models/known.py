"""The published checkpoints of this network: what they were made for, their licence, and how to tell them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from t2v_core.request import ModelDefaults

NON_COMMERCIAL = "CC-BY-NC-4.0"


@dataclass(frozen=True, slots=True)
class KnownCheckpoint:
    """A published checkpoint; `folder_name` matches the names of folders that it lies in."""

    name: str
    source: str
    licence: str
    defaults: ModelDefaults
    folder_name: re.Pattern[str]


def _row(
    name: str, source: str, folder_name: str, defaults: ModelDefaults, licence: str = NON_COMMERCIAL
) -> KnownCheckpoint:
    return KnownCheckpoint(name, f"huggingface.co/{source}", licence, defaults, re.compile(folder_name, re.IGNORECASE))


PRUNED = _row(
    "ModelScope text to video 1.7B, pruned",
    "kabachuha/modelscope-damo-text2video-pruned-weights",
    r"pruned",
    ModelDefaults(),
)
TO_RECOMMEND = PRUNED.source
"""The original four files in half precision: the one to begin with."""

# The first row that fits decides. What an author doesn't state, the frame rate above all, is the base model's.
KNOWN = (
    _row(
        "zeroscope v2 dark 30x448x256",
        "cerspense/zeroscope_v2_dark_30x448x256",
        r"(zeroscope|zs).*dark|30x448x256",
        ModelDefaults(width=448, height=256, frames=30),
    ),
    _row(
        "zeroscope v2 XL",
        "cerspense/zeroscope_v2_XL",
        r"(zeroscope|zs).*XL",
        ModelDefaults(width=1024, height=576, frames=24),
    ),
    _row(
        "zeroscope v2 576w",
        "cerspense/zeroscope_v2_576w",
        r"(zeroscope|zs).*576w",
        ModelDefaults(width=576, height=320, frames=24),
    ),
    _row(
        "potat1",
        "camenduru/potat1",
        r"potat",
        ModelDefaults(width=1024, height=576, frames=24),
        licence=f"not stated by its author; made from ModelScope's weights, which are {NON_COMMERCIAL}",
    ),
    _row("animov 512x", "strangeman3107/animov-512x", r"animov.*512", ModelDefaults(width=512, height=512)),
    _row("animov", "kabachuha/animov-0.1-modelscope-original-format", r"animov", ModelDefaults()),
    _row(
        "ModelScope text to video 1.7B for Diffusers",
        "ali-vilab/text-to-video-ms-1.7b",
        r"text-to-video-ms",
        ModelDefaults(),
    ),
    PRUNED,
    _row(
        "ModelScope text to video 1.7B",
        "ali-vilab/modelscope-damo-text-to-video-synthesis",
        r"^t2v$|modelscope",
        ModelDefaults(),
    ),
)


def published_at(source: str) -> KnownCheckpoint:
    """The row of the checkpoint with this source; `KeyError` for any other."""
    return {known.source: known for known in KNOWN}[source]


def recognise_folder(name: str) -> KnownCheckpoint | None:
    """The checkpoint that a folder of this name most likely holds."""
    return next((known for known in KNOWN if known.folder_name.search(name)), None)
