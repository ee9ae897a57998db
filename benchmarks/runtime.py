"""What the worker runtime costs per record, beside Powertools' batch processor, which keeps nothing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.effort import Effort
from benchmarks.measuring import by_cpu, fresh, in_turn, middle, paired
from benchmarks.rows import Row

NAME = "runtime"
EVERY = 100
"""One record in so many fails."""
TARGET = 0.25

SIZES = {Effort.FULL: (200_000, 9), Effort.QUICK: (200_000, 3), Effort.TINY: (2_000, 1)}
"""Records, and how often each side is measured."""


def benchmark(effort: Effort) -> Iterator[Row]:
    """Both sides from records in memory, which is the claim; then both from JSON."""
    count, times = SIZES[effort]
    yield _row(
        count,
        times,
        ("memory", "memory"),
        what=f"worker runtime with its journal, no-op handler, {count:,} records, 1% failing",
        target=TARGET,
        note="both from records in memory",
    )
    yield _row(
        count,
        times,
        ("ndjson", "json"),
        what="the same, reading and parsing the records included",
        target=None,
        note="the whole of run_attempt from ndjson, against the event's JSON parsed and processed",
    )


def _row(
    count: int, times: int, modes: tuple[str, str], *, what: str, target: float | None, note: str
) -> Row:
    ours, theirs = in_turn(
        times,
        partial(fresh, "benchmarks.sides.winnow_runtime", modes[0], count, EVERY),
        partial(fresh, "benchmarks.sides.powertools_runtime", modes[1], count, EVERY),
    )
    return Row(
        benchmark=NAME,
        what=what,
        ours=_micros(middle(ours, "seconds") / count),
        against=f"Powertools {_micros(middle(theirs, 'seconds') / count)}",
        ratio=paired(ours, theirs, "seconds"),
        target=target,
        note=f"{note}; {by_cpu(ours, theirs, 'cpu_seconds')}",
        numbers={"ours": ours, "theirs": theirs, "records": count},
    )


def _micros(seconds: float) -> str:
    return f"{seconds * 1e6:.2f} µs"
