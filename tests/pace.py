"""How fast this machine and its emulators are in this session, for tests in which time passes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import cache

from scripts.checks.stress import WAITS_VARIABLE

IDLE_SECONDS = 0.05
"""That an idle machine takes to start a Python process."""
STARTS = 5


@cache
def slowness() -> float:
    """How much slower this machine is than an idle one; measured once in a process that runs tests.

    The slowest of a few starts counts: a margin has to hold in the worst moment, too.
    """
    slowest = 0.0
    for _ in range(STARTS):
        since = time.monotonic()
        subprocess.run([sys.executable, "-I", "-c", "import json, threading"], check=True)
        slowest = max(slowest, time.monotonic() - since)
    return max(1.0, slowest / IDLE_SECONDS)


def margin(seconds: float) -> float:
    """What suffices on an idle machine for something to be done, as seconds on this one."""
    return seconds * slowness()


def waits(scale: float) -> float:
    """A factor on the emulator's waits; `./scripts/test --stress` makes it larger or smaller."""
    return scale * float(os.environ.get(WAITS_VARIABLE, "1"))
