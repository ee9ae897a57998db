"""Lets a loop report its progress to the recorder without a call per record."""

from __future__ import annotations

from collections.abc import Callable


class Streak:
    """Records that one loop takes one after the other, without a gap, and finishes before it takes the next.

    Only the loop moves `taken` and `done`. That costs a fraction of a call, and with a million records calls dominate the cost. The
    recorder collects what was done when it needs to know.
    """

    __slots__ = ("begin", "collected", "done", "limit", "taken")

    def __init__(self, limit: int, begin: Callable[[int], bool]) -> None:
        self.begin = begin
        """Called for a record that does not follow the one before or is not below the limit. Says whether it may be taken."""
        self.limit = limit
        """Ordinals below it may be taken without asking; -1 when no more may be."""
        self.taken = -1
        """One past the last ordinal that was taken up; -1 while there is no streak."""
        self.done = -1
        """One past the last that succeeded without output and warning, or whose outcome the recorder was told."""
        self.collected = -1
        """One past the last that the recorder has counted."""
