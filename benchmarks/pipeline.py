"""A three-stage pipeline on the emulator, beside a plain script that runs the same functions and keeps nothing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.deployed import SITES, Deployed
from benchmarks.effort import Effort
from benchmarks.measuring import Sample, fresh, in_turn, middle, paired
from benchmarks.rows import Row

NAME = "pipeline"
TARGET = 2.0
TARGET_RECORDS = 1_000_000
"""With fewer, the fixed cost of machines and Lambdas shows; they are printed, too."""
SIZES = {
    Effort.FULL: ((10_000, 5), (100_000, 3), (TARGET_RECORDS, 3)),
    Effort.QUICK: ((10_000, 1),),
    Effort.TINY: ((100, 1),),
}
"""Records, and how often each side is measured."""


def benchmark(effort: Effort) -> Iterator[Row]:
    """From StartExecution to the end of the execution, against a script from its first request to its last."""
    weather = SITES.weather()
    for count, times in SIZES[effort]:
        yield _row(weather, count, times)


def _row(weather: Deployed, count: int, times: int) -> Row:
    records = weather.put_readings(count)
    extra = {"AWS_ENDPOINT_URL": weather.emulator.endpoint.url}
    plain = partial(
        fresh,
        "benchmarks.sides.plain_pipeline",
        records["bucket"],
        records["key"],
        count,
        extra=extra,
    )
    ours, theirs = in_turn(times, partial(_run, weather, records, count), plain)
    return Row(
        benchmark=NAME,
        what=f"three-stage pipeline, {count:,} small records, on the emulator",
        ours=f"{middle(ours, 'seconds'):.1f} s",
        against=f"plain script {middle(theirs, 'seconds'):.1f} s",
        ratio=paired(ours, theirs, "seconds"),
        target=TARGET if count == TARGET_RECORDS else None,
        note=f"{middle(ours, 'seconds') / count * 1e6:.1f} µs a record, all stages",
        numbers={"ours": ours, "theirs": theirs, "records": count},
    )


def _run(weather: Deployed, records: dict[str, str], count: int) -> Sample:
    ended = weather.run(records)
    last = ended.output["stages"][weather.pipeline.stages[-1]]
    assert last["successes"]["count"] == count
    return {"seconds": ended.seconds}
