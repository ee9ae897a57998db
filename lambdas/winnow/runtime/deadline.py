"""Until when a worker takes records, so that its work is journaled before Lambda ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

RESERVE_SHARE = 0.1
"""Of the time a worker has; always reserved to finish the records in hand, journal the rest and return."""
MIN_RESERVE_SECONDS = 1.0
MAX_RESERVE_SECONDS = 30.0
RESERVED_FLUSHES = 3
"""Reserved instead where that is longer: one flush may be running at the deadline, one is the last, one covers other delays."""
MAX_RESERVE_SHARE = 0.5
"""Of the time a worker has; never more is reserved, however slow its flushes are."""


class Deadline:
    """The moment after which no record is taken. It comes earlier when flushes are slow."""

    def __init__(
        self, seconds: float, *, reserve: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Count from now.

        Args:
            seconds: until Lambda ends the worker.
            reserve: of these, always reserved.
            clock: seconds since any moment.
        """
        self._clock = clock
        self._ends = clock() + seconds
        self._latest = self._ends - reserve
        self._earliest = self._ends - max(reserve, seconds * MAX_RESERVE_SHARE)
        self._slowest = 0.0
        self._flushing_since: float | None = None

    @classmethod
    def of_worker(cls, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> Self:
        """For a worker that Lambda ends in so many seconds."""
        reserve = min(MAX_RESERVE_SECONDS, max(MIN_RESERVE_SECONDS, seconds * RESERVE_SHARE))
        return cls(seconds, reserve=reserve, clock=clock)

    @property
    def seconds_left(self) -> float:
        """Until no more record is taken; negative after that."""
        at = self._ends - RESERVED_FLUSHES * self._slowest
        since = self._flushing_since  # read once: the flush may end in another thread meanwhile
        if since is not None:
            # The flush may still be running then: the moment when the time left is RESERVED_FLUSHES times what it has taken so far.
            at = min(at, (self._ends + RESERVED_FLUSHES * since) / (1 + RESERVED_FLUSHES))
        return min(self._latest, max(self._earliest, at)) - self._clock()

    @contextmanager
    def measure_flush(self) -> Iterator[None]:
        """Measure the flush inside the `with`; one at a time."""
        self._flushing_since = since = self._clock()
        try:
            yield
        finally:
            # In this order, so that `seconds_left` counts the flush at every moment.
            self._slowest = max(self._slowest, self._clock() - since)
            self._flushing_since = None
