"""The simulator over many seeds: how many a second, whether all laws held, and which branches of Winnow were reached how often."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from benchmarks.effort import Effort
from benchmarks.rows import Row
from tests.simulation.branches import BRANCHES
from tests.simulation.checking import Tally, check_seeds

NAME = "simulate"
SEEDS = {Effort.FULL: 100_000, Effort.QUICK: 1_000, Effort.TINY: 10}
CHUNK = 250
TOLD_EVERY = 10_000
"""Seeds between two lines that say how far it is."""
NAMED = 10
"""Failed seeds that are named."""


def benchmark(effort: Effort, seeds: int | None = None) -> Iterator[Row]:
    """Simulate seeds 0 and up on all processors."""
    count = SEEDS[effort] if seeds is None else seeds
    processors = os.cpu_count() or 1
    since = time.monotonic()
    tally = _simulate(count, processors)
    seconds = time.monotonic() - since
    named = ", ".join(map(str, sorted(tally.failed)[:NAMED]))
    yield Row(
        benchmark=NAME,
        what=f"seeds in which a law does not hold, of {count:,}",
        ours=f"{len(tally.failed):,}",
        measured=len(tally.failed),
        target=0,
        note=f"tell one: .venv/bin/python -m tests.simulation SEED, of {named}" if named else "",
        numbers={"failed": sorted(tally.failed)},
    )
    yield Row(
        benchmark=NAME,
        what=f"seeds a second on {processors} processors",
        ours=f"{count / seconds:.1f}",
        numbers={"seeds": count, "seconds": seconds},
    )
    for branch in BRANCHES:
        yield Row(benchmark=NAME, what=branch, ours=f"{tally.reached[branch]:,}")


def _simulate(count: int, processors: int) -> Tally:
    tally = Tally()
    told = TOLD_EVERY
    with ProcessPoolExecutor(max_workers=processors, mp_context=get_context("spawn")) as pool:
        chunks = [
            pool.submit(check_seeds, range(first, min(count, first + CHUNK)))
            for first in range(0, count, CHUNK)
        ]
        for chunk in as_completed(chunks):
            tally.add(chunk.result())
            if tally.seeds >= told:
                print(f"  {tally.seeds:,} seeds, {len(tally.failed):,} failed", file=sys.stderr, flush=True)
                told += TOLD_EVERY
    return tally
