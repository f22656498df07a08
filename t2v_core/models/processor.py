"""What the system says of this machine's processor."""

from __future__ import annotations

import platform
from pathlib import Path

FACTS = Path("/proc/cpuinfo")


def fact(*names: str) -> str:
    """What stands in the first line with one of these names, as "flags"; nothing where no system keeps such lines."""
    try:
        lines = FACTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.lower().startswith(names)), "").partition(":")[2].strip()


def is_by_intel() -> bool:
    """Whether Intel made it."""
    return "GenuineIntel" in (fact("vendor_id") or platform.processor())
