"""Handlers that do nothing, or nothing of use for a given time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

Handler = Callable[[Any], None]


def failing_noop(every: int) -> Handler:
    """Does nothing, and raises for one record in so many."""
    numbers = itertools.count(1)

    def handler(record: Any) -> None:  # noqa: ARG001  Powertools gives it by this name
        if next(numbers) % every == 0:
            raise ValueError("no")

    return handler


def busy(rounds: int) -> Handler:
    """Keeps the processor busy with a fixed amount of work, which takes longer when other processes are busy, too."""

    def handler(record: Any) -> None:  # noqa: ARG001  Powertools gives it by this name
        for _ in range(rounds):
            pass

    return handler


def rounds_of(seconds: float) -> int:
    """How many rounds `busy` needs to take so long on this machine."""
    sample = busy(200_000)
    best = min(_timed(sample) for _ in range(20))
    return max(1, round(200_000 * seconds / best))


def _timed(handler: Handler) -> float:
    since = time.perf_counter()
    handler(None)
    return time.perf_counter() - since


def sleeping(seconds: float) -> Handler:
    """Waits, as for an answer from a network."""

    def handler(record: Any) -> None:  # noqa: ARG001  Powertools gives it by this name
        time.sleep(seconds)

    return handler
