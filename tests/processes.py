"""Processes that are nobody's children here."""

import os
import select

PATIENCE_SECONDS = 60
"""For a machine that does many other things."""


def wait_for_end_of(pid: int) -> None:
    """Return when a process has ended; fails when it does not."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, _, _ = select.select([handle], [], [], PATIENCE_SECONDS)
    os.close(handle)
    assert ended, f"process {pid} is still running"
