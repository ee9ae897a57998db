"""What it takes to know who is left of ten million records, beside a set difference of their ids."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial

from benchmarks.effort import Effort
from benchmarks.measuring import Sample, by_cpu, fresh, in_turn, middle, paired
from benchmarks.rows import Row

NAME = "settling"
SIZES = {Effort.FULL: (10_000_000, 5), Effort.QUICK: (1_000_000, 2), Effort.TINY: (20_000, 1)}
"""Records, and how often each side is measured."""
SHARE_OF_TIME = 1 / 20
SHARE_OF_MEMORY = 1 / 10
LAMBDA_MB = 128.0
SIDE = "benchmarks.sides.winnow_settle"


def benchmark(effort: Effort) -> Iterator[Row]:
    """Whole fresh processes, start of the interpreter included, on files of this machine."""
    count, times = SIZES[effort]
    with tempfile.TemporaryDirectory() as folder:
        fresh("benchmarks.sides.settlement_fixture", folder, count)
        ours, theirs = in_turn(
            times,
            partial(fresh, SIDE, folder, "retry"),
            partial(fresh, "benchmarks.sides.python_set", folder),
        )
        numbers = {"ours": ours, "theirs": theirs, "records": count}
        what = f"settling {count:,} records, 1% failed at random"
        yield Row(
            benchmark=NAME,
            what=f"{what}: time",
            ours=f"{middle(ours, 'process_seconds'):.2f} s",
            against=f"set of ids {middle(theirs, 'process_seconds'):.2f} s",
            ratio=paired(ours, theirs, "process_seconds"),
            target=SHARE_OF_TIME,
            note=f"whole processes; settling itself {middle(ours, 'seconds'):.2f} s; {by_cpu(ours, theirs, 'process_cpu_seconds')}",
            numbers=numbers,
        )
        yield Row(
            benchmark=NAME,
            what=f"{what}: memory",
            ours=f"{middle(ours, 'peak_mb'):.0f} MB",
            against=f"set of ids {middle(theirs, 'peak_mb'):,.0f} MB",
            ratio=paired(ours, theirs, "peak_mb"),
            target=SHARE_OF_MEMORY,
            numbers=numbers,
        )
        exhausted = fresh(SIDE, folder, "exhausted")
        as_lambda = fresh(SIDE, folder, "lambda")
        yield _failure_records(exhausted, middle(ours, "seconds"))
        yield _memory(as_lambda)
    yield from _output_ids(count, times)


def _output_ids(count: int, times: int) -> Iterator[Row]:
    """What a stage pays whose worker makes ids of its own, beside a dictionary of all of them."""
    with tempfile.TemporaryDirectory() as folder:
        fresh("benchmarks.sides.output_ids_fixture", folder, count)
        side = "benchmarks.sides.output_ids"
        ours, theirs = in_turn(
            times, partial(fresh, side, folder, "check"), partial(fresh, side, folder, "dictionary")
        )
    numbers = {"ours": ours, "theirs": theirs, "outputs": count}
    what = f"finding the ids that two of {count:,} outputs have, where a worker makes them itself"
    seconds = middle(ours, "seconds")
    yield Row(
        benchmark=NAME,
        what=f"{what}: time",
        ours=f"{seconds:.2f} s",
        against=f"dictionary of ids {middle(theirs, 'seconds'):.2f} s",
        ratio=paired(ours, theirs, "seconds"),
        note=f"{seconds / count * 1e6:.2f} µs each; other stages pay nothing",
        numbers=numbers,
    )
    yield Row(
        benchmark=NAME,
        what=f"{what}: memory",
        ours=f"{middle(ours, 'peak_mb'):.0f} MB",
        against=f"dictionary of ids {middle(theirs, 'peak_mb'):,.0f} MB",
        ratio=paired(ours, theirs, "peak_mb"),
        measured=middle(ours, "peak_mb"),
        unit="MB",
        target=LAMBDA_MB,
        numbers=numbers,
    )


def _failure_records(exhausted: Sample, settling: float) -> Row:
    seconds = exhausted["seconds"] - settling
    return Row(
        benchmark=NAME,
        what=f"writing the failure records of {exhausted['failed']:,} of them, once they are given up",
        ours=f"{seconds:.2f} s",
        note=f"{seconds / exhausted['failed'] * 1e6:.0f} µs each, its share of the alert included",
        numbers={"exhausted": exhausted},
    )


def _memory(as_lambda: Sample) -> Row:
    return Row(
        benchmark=NAME,
        what="memory of that, with S3 client and logger as in its Lambda",
        ours=f"{as_lambda['peak_mb']:.0f} MB",
        measured=as_lambda["peak_mb"],
        unit="MB",
        target=LAMBDA_MB,
        note=f"state data of {as_lambda['state_bytes']:,} bytes",
        numbers={"lambda": as_lambda},
    )
