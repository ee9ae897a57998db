"""How a loop tells the recorder what it got done without calling it."""

from __future__ import annotations

from collections.abc import Callable


class Streak:
    """Records that one loop takes one after the other, without a gap, and finishes before it takes the next.

    The loop alone moves `taken` and `done`, which costs a fraction of a call, and with a million records calls are what counts.
    The recorder collects what was done when it needs to know.
    """

    __slots__ = ("begin", "collected", "done", "limit", "taken")

    def __init__(self, limit: int, begin: Callable[[int], bool]) -> None:
        self.begin = begin
        """Asked where a record does not follow on the one before or is not below the limit: may it be taken up?"""
        self.limit = limit
        """Ordinals below it may be taken without asking; -1 when no more may be."""
        self.taken = -1
        """One past the last ordinal that was taken up; -1 while there is no streak."""
        self.done = -1
        """One past the last that succeeded with nothing to hand on and nothing to warn of, or whose outcome was told."""
        self.collected = -1
        """One past the last that the recorder has counted."""
