"""How long tests wait for a condition, at most: a test goes on as soon as it holds."""

import os
import select
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 600
"""Until what does not come is called missing. A test that passes never waits so long, on however slow a machine."""
POLL_SECONDS = 0.02


def await_(what: str, condition: Callable[[], T | None], *, poll_seconds: float = POLL_SECONDS) -> T:
    """Wait until a condition gives something; fails when it does not."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE_SECONDS} s: {what}")
        time.sleep(poll_seconds)
    return found


def wait_for_end_of(pid: int) -> None:
    """Return when a process has ended that is not a child of this one; fails when it does not."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, _, _ = select.select([handle], [], [], PATIENCE_SECONDS)
    os.close(handle)
    assert ended, f"process {pid} is still running"
