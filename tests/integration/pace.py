"""How fast the emulator goes about its waits in this session."""

from __future__ import annotations

import os

from scripts.checks.stress import WAITS_VARIABLE


def waits(scale: float) -> float:
    """A factor on the emulator's waits; `./scripts/test --stress` makes it larger or smaller."""
    return scale * float(os.environ.get(WAITS_VARIABLE, "1"))
