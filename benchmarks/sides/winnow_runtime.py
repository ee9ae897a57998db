"""The worker runtime over records in memory, and over a batch from its ndjson to its journal."""

from __future__ import annotations

import gc
import json

from benchmarks.sides.batches import FAR, items_of, order_for, plan_of, recorder_on
from benchmarks.sides.common import Clock, Taken
from benchmarks.sides.handlers import failing_noop
from winnow.metrics.watch import Watch
from winnow.runtime.attempt import run_attempt
from winnow.runtime.decorator import Worker
from winnow.runtime.engine import run
from winnow.runtime.options import Options
from winnow.storage.ledger import Ledger
from winnow.testing import FakeContext, MemoryStore


def main(arguments: list[str]) -> None:
    """Arguments: `memory` or `ndjson`, number of records, one in how many fails."""
    count, every = int(arguments[1]), int(arguments[2])
    (seconds, cpu_seconds), failed = (_memory if arguments[0] == "memory" else _ndjson)(count, every)
    assert failed == count // every
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds}))


def _memory(count: int, every: int) -> tuple[Taken, int]:
    store = MemoryStore()
    plan = plan_of(store, count)
    items = items_of(plan)
    gc.collect()
    clock = Clock()
    recorder = recorder_on(store, plan)
    run(failing_noop(every), items, recorder, Options(), recorder.streak)
    recorder.close()
    return clock.taken(), recorder.totals.all_failed


def _ndjson(count: int, every: int) -> tuple[Taken, int]:
    store = MemoryStore()
    event = order_for(store, count).to_payload()
    worker = Worker(failing_noop(every), Options())
    gc.collect()
    clock = Clock()
    report = run_attempt(
        worker,
        event,
        FakeContext(FAR),
        ledger=Ledger(store),
        watch=Watch(environment="test", pipeline="bench"),
        code_version="bench",
    )
    return clock.taken(), int(report["failed"])
