"""How time, memory and state data grow with the number of records, through one stage."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.deployed import SITES, Deployed
from benchmarks.effort import Effort
from benchmarks.measuring import fresh
from benchmarks.rows import Row
from winnow.core.contract import MAX_INLINE_BYTES

NAME = "growth"
MOST_GROWTH = 1.2
MOST_STATE_GROWTH = 1.02
"""A count has more digits when there is more to count."""
SIZES = {
    Effort.FULL: ((10_000, 5), (100_000, 3), (1_000_000, 3)),
    Effort.QUICK: ((10_000, 1), (50_000, 1)),
    Effort.TINY: ((10, 1), (100, 1)),
}
"""Records, and how often a stage is run over them; the last two are compared."""
SIDE = "benchmarks.sides.handler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One stage over so many records."""

    count: int
    seconds: list[float]
    state_bytes: int
    """The longest input, output or payload in the execution's history."""
    plan_mb: float
    worker_mb: float
    settle_mb: float

    @property
    def usual_seconds(self) -> float:
        return statistics.median(self.seconds)

    def to_json(self) -> dict[str, Any]:
        return {
            "records": self.count,
            "seconds": self.seconds,
            "state_bytes": self.state_bytes,
            "plan_mb": self.plan_mb,
            "worker_mb": self.worker_mb,
            "settle_mb": self.settle_mb,
        }


def benchmark(effort: Effort) -> Iterator[Row]:
    """Time from executions on the emulator; memory from the handlers, each in a process of its own, on its S3."""
    weather = SITES.weather()
    one = weather.put_readings(1)
    fixed = statistics.median(weather.run_stage(one).seconds for _ in range(5))
    measured = [_measure(weather, count, times) for count, times in SIZES[effort]]
    yield from _rows(measured, fixed)


def _rows(measured: list[Measured], fixed: float) -> Iterator[Row]:
    first, (*_, before, last) = measured[0], measured
    sizes = " / ".join(f"{each.count:,}" for each in measured)
    numbers = {"fixed_seconds": fixed, "sizes": [each.to_json() for each in measured]}

    def slope(each: Measured) -> float:
        return (each.usual_seconds - fixed) / each.count

    yield Row(
        benchmark=NAME,
        what=f"one stage, {sizes} records: time per record, {last.count:,} against {before.count:,}",
        ours=" / ".join(f"{each.usual_seconds:.1f}" for each in measured) + " s",
        against=f"{fixed:.1f} s for one record, taken off",
        ratio=slope(last) / slope(before),
        target=MOST_GROWTH,
        note=f"{slope(last) * 1e6:.1f} µs a record",
        numbers=numbers,
    )
    for name, of in (("Plan", "plan_mb"), ("Settle", "settle_mb"), ("the worker", "worker_mb")):
        peaks = [getattr(each, of) for each in measured]
        yield Row(
            benchmark=NAME,
            what=f"the same: peak memory of {name}, {last.count:,} against {before.count:,}",
            ours=" / ".join(f"{peak:.0f}" for peak in peaks) + " MB",
            ratio=peaks[-1] / peaks[-2],
            target=None if of == "worker_mb" else MOST_GROWTH,
            note="buffers are full from about 100,000 records on" if of == "plan_mb" else "",
            numbers={"mb": peaks},
        )
    state = [each.state_bytes for each in measured]
    yield Row(
        benchmark=NAME,
        what=f"the same: longest state data, {last.count:,} against {first.count:,}",
        ours=" / ".join(f"{each:,}" for each in state) + " bytes",
        ratio=state[-1] / state[0],
        target=MOST_STATE_GROWTH,
        note=f"allowed are {MAX_INLINE_BYTES:,}",
        numbers={"bytes": state},
    )


def _measure(weather: Deployed, count: int, times: int) -> Measured:
    records = weather.put_readings(count)
    ended = [weather.run_stage(records) for _ in range(times)]
    peaks = _peaks(weather, records)
    return Measured(
        count=count,
        seconds=[each.seconds for each in ended],
        state_bytes=max(map(longest, weather.history(ended[-1].arn))),
        plan_mb=peaks["plan"],
        worker_mb=peaks["worker"],
        settle_mb=peaks["settle"],
    )


def longest(event: dict[str, Any]) -> int:
    """Bytes of the longest state data that an event of a history carries."""
    details = [value for value in event.values() if isinstance(value, dict)]
    data = [each.get(name) for each in details for name in ("input", "output", "parameters")]
    return max((len(each.encode()) for each in data if isinstance(each, str)), default=0)


def _peaks(weather: Deployed, records: dict[str, str]) -> dict[str, float]:
    """What the stage machine would do, by hand: each handler in a fresh process with the deployed environment."""
    extra = {
        "AWS_ENDPOINT_URL": weather.emulator.endpoint.url,
        "WINNOW_PIPELINE": weather.pipeline.name,
        "WINNOW_STAGE": weather.pipeline.stages[0],
        "WINNOW_LEDGER_BUCKET": weather.ledger_bucket,
    }
    planned = fresh(SIDE, "plan", json.dumps({"records": records}), extra=extra)
    order = planned["answer"]
    worked = fresh(SIDE, "worker", json.dumps(order), extra=extra)
    state = {"order": order, "worker": worked["answer"]}
    settled = fresh(SIDE, "settle", json.dumps(state), extra=extra)
    assert settled["answer"]["verdict"] == "COMPLETE"
    return {"plan": planned["peak_mb"], "worker": worked["peak_mb"], "settle": settled["peak_mb"]}
