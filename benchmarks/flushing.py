"""What flushing the journal costs a worker in wall time, and how much work a death can cost."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.effort import Effort
from benchmarks.measuring import TURN_SECONDS, by_turns, fresh, middle, paired, run_code
from benchmarks.rows import Row
from scripts.local.emulator import REGION, Emulator
from scripts.local.target import at_emulator

NAME = "flushing"
MOST_OVERHEAD = 1.05
MOST_TO_LOSE_SECONDS = 5.0
SIDE = "benchmarks.sides.loop"


class Size(NamedTuple):
    """Of one effort."""

    handler_seconds: tuple[float, ...]
    loop_seconds: float
    """Of the bare loop, about."""
    flush_seconds: float
    times: int
    """By turns; the work that could be lost is measured once more, undisturbed."""


DEFAULT_FLUSH_SECONDS = 5.0
SIZES = {
    Effort.FULL: Size((0.000_02, 0.000_2, 0.002), 11.0, DEFAULT_FLUSH_SECONDS, 3),
    Effort.QUICK: Size((0.000_02, 0.002), 2.2, 1.0, 1),
    Effort.TINY: Size((0.000_2,), 0.05, 0.02, 1),
}
LEAST_SLEEP_SECONDS = 0.000_07
"""What the kernel adds to a sleep, about; only to choose how many records fill the time."""


def benchmark(effort: Effort) -> Iterator[Row]:
    """Handlers that work and handlers that wait, journaled to the emulator's S3, beside the same loop without a journal."""
    size = SIZES[effort]
    with (
        tempfile.TemporaryDirectory() as folder,
        Emulator.start(Path(folder) / "emulator") as emulator,
    ):
        at_emulator(emulator.endpoint).client("s3").create_bucket(
            Bucket="bench", CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        extra = {"AWS_ENDPOINT_URL": emulator.endpoint.url}
        to_lose: list[float] = []
        for kind in ("busy", "sleeping"):
            for seconds in size.handler_seconds:
                loop = _loop(kind, seconds, size)
                yield _row(loop, size.times, extra)
                to_lose.append(fresh(SIDE, "s3", *loop.arguments, extra=extra)["to_lose"])
    yield Row(
        benchmark=NAME,
        what="work that a death can cost at most, over all of these",
        ours=f"{max(to_lose):.2f} s",
        measured=max(to_lose),
        unit="s",
        target=MOST_TO_LOSE_SECONDS,
        note=f"from taking up what a segment holds until the next is durable; flushed every {size.flush_seconds:g} s",
        numbers={"seconds": to_lose, "flush_seconds": size.flush_seconds},
    )


class Loop(NamedTuple):
    """A handler and how often it is called."""

    what: str
    records: int
    arguments: tuple[object, ...]


def _loop(kind: str, seconds: float, size: Size) -> Loop:
    count = round(size.loop_seconds / (seconds + (LEAST_SLEEP_SECONDS if kind == "sleeping" else 0)))
    amount: float = seconds
    if kind == "busy":
        amount = run_code(f"import sys; from {SIDE} import calibrate; calibrate(sys.argv[1:])", seconds)[
            "rounds"
        ]
    what = f"{kind} handler of {seconds * 1000:g} ms, {count:,} records"
    return Loop(what, count, (kind, amount, count, size.flush_seconds))


def _row(loop: Loop, times: int, extra: dict[str, str]) -> Row:
    both = [
        by_turns(("s3", *loop.arguments), ("bare", *loop.arguments), module=SIDE, extra=extra)
        for _ in range(times)
    ]
    journaled, bare = ([pair[side] for pair in both] for side in (0, 1))
    return Row(
        benchmark=NAME,
        what=f"journal flushing, {loop.what}",
        ours=f"{middle(journaled, 'seconds'):.2f} s",
        against=f"no journal {middle(bare, 'seconds'):.2f} s",
        ratio=paired(journaled, bare, "seconds"),
        target=MOST_OVERHEAD,
        note=f"by turns of {TURN_SECONDS:g} s; {journaled[0]['segments']} segments to the emulator's S3",
        numbers={"ours": journaled, "theirs": bare, "records": loop.records},
    )
