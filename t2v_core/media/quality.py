"""What H.264's constant rate factor, the one scale of quality that people choose on, means for pictures."""

from __future__ import annotations

import itertools

# CRF, and the quality of a JPEG or WebP that looks like it.
_LIKE = ((0, 100), (10, 97), (17, 95), (23, 88), (28, 78), (35, 55), (51, 10))


def picture_quality(crf: int) -> int:
    """0 to 100, as JPEG and WebP count."""
    for (crf_before, better), (crf_after, worse) in itertools.pairwise(_LIKE):
        if crf <= crf_after:
            return round(better + (worse - better) * (crf - crf_before) / (crf_after - crf_before))
    return _LIKE[-1][1]


def effort(preset: str, presets: tuple[str, ...], *, most: int) -> int:
    """How hard to try, from 0 for the fastest preset to `most` for the slowest; the middle for one that's unknown."""
    place = presets.index(preset) if preset in presets else len(presets) // 2
    return round(place * most / (len(presets) - 1))
