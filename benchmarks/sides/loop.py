"""The same handler over the same records: in a bare loop, and with a journal."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.disk import DiskStore
from benchmarks.measuring import begin
from benchmarks.sides.batches import items_of, plan_of, recorder_on
from benchmarks.sides.common import Clock
from benchmarks.sides.handlers import Handler, busy, rounds_of, sleeping
from winnow.batch.plan import Plan
from winnow.core.contract import new_run_id
from winnow.runtime.engine import run
from winnow.runtime.options import Options
from winnow.runtime.sink import Item
from winnow.storage.ledger import Ledger
from winnow.storage.store import ObjectStore, S3Store


class Watched:
    """A store that notes when each segment of the journal began to be written, and when it was durable."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.bucket = store.bucket
        self.segments: list[tuple[float, float]] = []

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> None:
        since = time.monotonic()
        self._store.put(key, body, if_absent=if_absent)
        if "/journal/" in key:
            self.segments.append((since, time.monotonic()))

    def __getattr__(self, name: str) -> Callable[..., object]:
        method: Callable[..., object] = getattr(self._store, name)
        return method


def main(arguments: list[str]) -> None:
    """Arguments: `bare`, `disk` or `s3`; `busy` or `sleeping`; seconds or rounds of a call; records; seconds between flushes."""
    where, kind, size, count, flush_seconds = arguments
    handler = busy(int(size)) if kind == "busy" else sleeping(float(size))
    with tempfile.TemporaryDirectory() as folder:
        below: ObjectStore = _s3() if where == "s3" else DiskStore(Path(folder))
        store = Watched(below)
        # A run of its own: in S3 the plans of the measurements before are still there.
        plan = plan_of(store, int(count), new_run_id())  # type: ignore[arg-type]
        items = items_of(plan)
        begin()
        if where == "bare":
            clock = Clock()
            _bare(handler, items)
            _, cpu_seconds = clock.taken()
            print(json.dumps({"cpu_seconds": cpu_seconds}))
        else:
            print(json.dumps(_journaled(handler, items, store, plan, float(flush_seconds))))


def calibrate(arguments: list[str]) -> None:
    """Argument: seconds. How many rounds `busy` needs for them on this machine."""
    print(json.dumps({"rounds": rounds_of(float(arguments[0]))}))


def _bare(handler: Handler, items: Sequence[Item]) -> None:
    failed = []
    for ordinal, record in items:
        try:
            handler(record)
        except Exception as error:  # noqa: BLE001  as anybody would write it who wants to go on
            failed.append((ordinal, error))


def _journaled(
    handler: Handler, items: Sequence[Item], store: Watched, plan: Plan, flush_seconds: float
) -> dict[str, float]:
    begun, clock = time.monotonic(), Clock()
    recorder = recorder_on(store, plan, flush_seconds=flush_seconds)  # type: ignore[arg-type]
    run(handler, items, recorder, Options(), recorder.streak)
    recorder.close()
    _, cpu_seconds = clock.taken()
    to_lose, covered = 0.0, begun
    for collected, durable in store.segments:
        to_lose, covered = max(to_lose, durable - covered), collected
    return {"cpu_seconds": cpu_seconds, "to_lose": to_lose, "segments": len(store.segments)}


def _s3() -> ObjectStore:
    ledger = Ledger.of_bucket("bench")
    assert isinstance(ledger.store, S3Store)
    return ledger.store
