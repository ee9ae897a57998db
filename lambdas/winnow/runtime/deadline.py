"""When a worker is to take no more records, so that what it did is journaled before Lambda ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

RESERVE_SHARE = 0.1
"""Of the time a worker has, kept back at least: to finish the records in hand, journal the rest and return."""
MIN_RESERVE_SECONDS = 1.0
MAX_RESERVE_SECONDS = 30.0
RESERVED_FLUSHES = 3
"""Kept back where that is longer: one flush may be under way at the deadline, one is the last, one is for all that is slow besides."""
MAX_RESERVE_SHARE = 0.5
"""Of the time a worker has: however slow its flushes are, it works in the rest."""


class Deadline:
    """The end of taking records. It comes earlier as soon as flushes prove to be slow."""

    def __init__(
        self, seconds: float, *, reserve: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Count from now.

        Args:
            seconds: until Lambda ends the worker.
            reserve: of these, kept back at least.
            clock: in seconds, from any beginning.
        """
        self._clock = clock
        self._ends = clock() + seconds
        self._latest = self._ends - reserve
        self._earliest = self._ends - max(reserve, seconds * MAX_RESERVE_SHARE)
        self._slowest = 0.0
        self._flushing_since: float | None = None

    @classmethod
    def of_worker(cls, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> Self:
        """Of a worker that Lambda ends in so many seconds."""
        reserve = min(MAX_RESERVE_SECONDS, max(MIN_RESERVE_SECONDS, seconds * RESERVE_SHARE))
        return cls(seconds, reserve=reserve, clock=clock)

    @property
    def seconds_left(self) -> float:
        """Until no record is taken any more; below 0 afterwards."""
        at = self._ends - RESERVED_FLUSHES * self._slowest
        since = self._flushing_since  # read once: the flush may end in its thread meanwhile
        if since is not None:
            # Unless it ends before: when the time that is left will be so many times what the flush has taken by then.
            at = min(at, (self._ends + RESERVED_FLUSHES * since) / (1 + RESERVED_FLUSHES))
        return min(self._latest, max(self._earliest, at)) - self._clock()

    @contextmanager
    def measure_flush(self) -> Iterator[None]:
        """Within it, a segment is written; one at a time."""
        self._flushing_since = since = self._clock()
        try:
            yield
        finally:
            # In this order: at no moment is it forgotten.
            self._slowest = max(self._slowest, self._clock() - since)
            self._flushing_since = None
