"""What measured programs share; next to nothing, so that it weighs on no side."""

import resource
import sys

RUN, STAGE = "bench", "work"


def record_id(number: int) -> str:
    return f"record-{number:08d}"


def peak_mb() -> float:
    """Memory that this process had at most, in MiB."""
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
