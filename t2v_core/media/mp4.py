"""mp4 with H.264, the one film that everything plays."""

from __future__ import annotations

from t2v_core.media.film import write

__all__ = ["write"]
