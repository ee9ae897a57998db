"""How long this process took to start. Imported last by the handler, so that everything that it loads is included."""

from __future__ import annotations

import os
from pathlib import Path

TICKS_FIELD = 19
"""Of /proc/self/stat, counted after the name of the process: when it started, in ticks since the system did."""


def _process_seconds() -> float | None:
    """Since this process began; None where the system does not say."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
        started = int(fields[TICKS_FIELD]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
    return max(0.0, uptime - started)


SECONDS = _process_seconds()
"""From the start of the process until this module was loaded: what a cold start takes, seen from inside."""
