"""What measured programs share; next to nothing, so that it weighs on no side."""

import resource
import sys
import time
from pathlib import Path

RUN, STAGE = "bench", "work"


def record_id(number: int) -> str:
    return f"record-{number:08d}"


def peak_mb() -> float:
    """Memory that this process had at most, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what its parent had when it was forked
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


Taken = tuple[float, float]
"""Seconds, and seconds of the processor."""


class Clock:
    """Measures from when it is made."""

    def __init__(self) -> None:
        self._since, self._cpu_since = time.perf_counter(), time.process_time()

    def taken(self) -> Taken:
        return time.perf_counter() - self._since, time.process_time() - self._cpu_since
