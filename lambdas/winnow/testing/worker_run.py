"""A worker run over a batch in a test: the real plan, runtime, journal and settlement, on a store in memory."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from winnow.core.contract import Order, Policy, StageInput
from winnow.core.errors import LedgerObjectMissing
from winnow.core.keys import StageKeys
from winnow.journal.reports import words_of
from winnow.journal.segment import read_output_ids
from winnow.journal.successes import SuccessManifest
from winnow.metrics.watch import Watch
from winnow.planning.stage_planner import continue_stage, plan_stage
from winnow.runtime.attempt import run_attempt
from winnow.runtime.decorator import Worker
from winnow.settlement.failure_records import read_failures
from winnow.settlement.result import StageResult
from winnow.settlement.settle import settle
from winnow.storage.formats import DELETED_COLUMN, open_parquet
from winnow.storage.ledger import Ledger, decompress
from winnow.testing.memory_store import MemoryStore


@dataclass(slots=True)
class FakeContext:
    """A Lambda context with a clock that runs."""

    seconds: float = 900.0
    memory_limit_in_mb: int = 512
    aws_request_id: str = "test"
    started: float = field(default_factory=time.monotonic)

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.started + self.seconds - time.monotonic()) * 1000))


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a record failed in the end."""

    kind: str
    error_type: str
    message: str
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What became of a batch."""

    verdict: str
    """COMPLETE, EXHAUSTED or TOTAL_FAILURE."""
    cause: str
    """Why nothing succeeded, of a TOTAL_FAILURE: what the worker's setup raised, for instance."""
    outputs: Mapping[str, Any]
    """Output data by output id."""
    lineage: Mapping[str, str | list[str]]
    """Output id to the id, or ids, of the records it came from."""
    deleted: frozenset[str]
    """Ids of deletions, which are in `lineage` and not in `outputs`."""
    skipped: int
    failures: Mapping[str, Failure]
    """By record id."""
    tries: int
    warnings: int
    counts: Mapping[str, int]
    ledger: Ledger


def run_worker(
    worker: Worker,
    records: Iterable[str | Mapping[str, Any]],
    *,
    max_tries: int = 4,
    seconds: float = 900.0,
    stage: str = "test",
    run_id: str | None = None,
) -> BatchResult:
    """Run a worker over records as a stage machine would, waits left out.

    Args:
        records: ids, or objects with an `id` and `data`.
        max_tries: as the stage's.
        seconds: that each invocation has, as the Lambda's timeout.

    Raises:
        StageInputError: the records cannot be a batch.
    """
    ledger = Ledger(MemoryStore("test-ledger"))
    policy = Policy(max_tries=max_tries)
    where: dict[str, Any] = {"pipeline": "test", "stage": stage, "policy": policy}
    listed = [dict(record) if isinstance(record, Mapping) else record for record in records]
    event: dict[str, Any] = {"records": listed} | ({"run_id": run_id} if run_id else {})
    order = plan_stage(ledger, StageInput.from_event(event), execution="test-0", **where)
    while True:
        state = _attempt(worker, order, ledger, seconds)
        verdict = settle(ledger, state, lambda _metric, _value: None)
        if not verdict["next"]:
            return _result(ledger, verdict)
        order = continue_stage(
            ledger, verdict["next"], execution=f"test-{verdict['next']['attempt']}", **where
        )


def _attempt(worker: Worker, order: Order, ledger: Ledger, seconds: float) -> dict[str, Any]:
    """One attempt, with the stage machine's one more call for whatever escapes the worker."""
    state: dict[str, Any] = {"order": order.to_payload()}
    for _ in range(2):
        state.pop("worker_error", None)
        try:
            state["worker"] = run_attempt(
                worker,
                state["order"],
                FakeContext(seconds),
                ledger=ledger,
                watch=Watch(environment="test", pipeline="test"),
                code_version="test",
            )
        except Exception as error:  # noqa: BLE001  the state machine's Catch
            cause = json.dumps({"errorType": type(error).__name__, "errorMessage": words_of(error)})
            state["worker_error"] = {"Error": type(error).__name__, "Cause": cause}
        else:
            break
    return state


def _result(ledger: Ledger, state: Mapping[str, Any]) -> BatchResult:
    keys = StageKeys(state["order"]["run_id"], state["order"]["stage"])
    result = ledger.read(keys.result, StageResult.from_json)
    outputs: dict[str, Any] = {}
    lineage: dict[str, str | list[str]] = {}
    deleted: set[str] = set()
    for entry in ledger.read(keys.successes, SuccessManifest.from_json).entries:
        of = read_output_ids(ledger, entry).of
        for line, ordinal in zip(_lines(ledger, entry.key), of, strict=True):
            if entry.accept is None or ordinal in entry.accept:
                if "deleted" in line:
                    deleted.add(line["id"])
                else:
                    outputs[line["id"]] = line["data"]
                lineage[line["id"]] = line["from"]
    return BatchResult(
        verdict=state["verdict"],
        cause=state["cause"] or "",
        outputs=outputs,
        lineage=lineage,
        deleted=frozenset(deleted),
        skipped=result.output.skipped,
        failures=_failures(ledger, keys.failures),
        tries=result.output.tries,
        warnings=result.counts.warnings,
        counts=result.counts.to_json(),
        ledger=ledger,
    )


def _lines(ledger: Ledger, key: str) -> list[dict[str, Any]]:
    body = ledger.store.get(key).body
    if key.endswith(".parquet"):
        return [_line_of(row) for row in open_parquet(body, key).read().to_pylist()]
    return [json.loads(line) for line in decompress(body).splitlines()]


def _line_of(row: dict[str, Any]) -> dict[str, Any]:
    """A Parquet segment's row as a line of an ndjson segment."""
    line: dict[str, Any] = {"deleted": True} if row.pop(DELETED_COLUMN, None) else {}
    return {"id": row.pop("record_id"), "from": row.pop("from"), "data": row, **line}


def _failures(ledger: Ledger, key: str) -> dict[str, Failure]:
    try:
        records = list(read_failures(ledger, key))
    except LedgerObjectMissing:
        return {}
    return {
        record.record_id: Failure(
            kind=record.kind.value, error_type=record.error_type, message=record.message, tries=record.tries
        )
        for record in records
    }
