"""A stage in memory, for tests: Plan, worker and Settle as they are; only the state machine and S3 are fakes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from winnow import worker
from winnow.batch.plan import Plan, blocks_of, read_plan
from winnow.batch.rows import RowSpan
from winnow.batch.successes import SuccessesSource
from winnow.core.contract import Kind, Order, Policy, StageInput
from winnow.core.keys import AttemptKeys, StageKeys
from winnow.core.ranges import Ranges
from winnow.journal.evidence import Evidence, fold, read_segments
from winnow.journal.reports import FailureReport, write_reports
from winnow.journal.segment import OutputSegment, Segment
from winnow.journal.successes import SuccessManifest
from winnow.metrics.watch import Watch
from winnow.planning.stage_planner import continue_stage, plan_stage
from winnow.runtime.attempt import run_attempt
from winnow.runtime.decorator import Worker
from winnow.settlement.settle import settle
from winnow.settlement.settlement import Settlement, read_settlement
from winnow.storage.ledger import Ledger, digest_of
from winnow.testing import FakeContext, MemoryStore

RUN_ID = "01JD7ZK3V5Q8W9X0Y1Z2A3B4C5"
STAGE = "transform"
KEYS = StageKeys(RUN_ID, STAGE)
POLICY = Policy(backoff_seconds=0)
DIED = {"Error": "Sandbox.Timedout", "Cause": "Task timed out after 900.00 seconds"}


@worker
def untouched(record: Any) -> None:
    """A worker for tests that never run one."""


class MoodyStore(MemoryStore):
    """A bucket that refuses writes when told to, and knows what was written in which order."""

    def __init__(self, refuse: Callable[[str], bool] = lambda _: False) -> None:
        super().__init__("ledger")
        self.refuse = refuse
        """Whether a write under a key is refused."""
        self.written: list[str] = []

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> None:
        if self.refuse(key):
            raise ConnectionError(f"S3 refuses {key}")
        super().put(key, body, if_absent=if_absent)
        self.written.append(key)


class DyingStore(MoodyStore):
    """A bucket as a process sees it that is killed at its n-th write: later writes are lost without an error."""

    writes_left: float = float("inf")

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> None:
        if self.writes_left <= 0:
            return
        super().put(key, body, if_absent=if_absent)
        self.writes_left -= 1


@dataclass(slots=True)
class Stage:
    """One stage run."""

    worker: Worker = untouched
    store: MemoryStore = field(default_factory=MoodyStore)
    policy: Policy = POLICY
    verdicts: list[str] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)
    """What Settle gave the state machine, attempt by attempt."""

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.store)

    def plan(self, records: object, *, execution: str = "first", **more: Any) -> Order:
        event = {"run_id": RUN_ID, "records": records, **more}
        return plan_stage(
            self.ledger,
            StageInput.from_event(event),
            pipeline="catalogue",
            stage=STAGE,
            policy=self.policy,
            execution=execution,
        )

    def deeper(self, state: Mapping[str, Any]) -> Order:
        """The order of the attempt that a settled state asks for."""
        return continue_stage(
            self.ledger,
            state["next"],
            pipeline="catalogue",
            stage=STAGE,
            policy=self.policy,
            execution=state["next_name"],
        )

    def invoke(self, order: Order, *, seconds: float = 900.0, memory_mb: int = 512) -> dict[str, Any]:
        """One call of the worker's Lambda."""
        return run_attempt(
            self.worker,
            order.to_payload(),
            FakeContext(seconds, memory_mb),
            ledger=self.ledger,
            watch=Watch(environment="test", pipeline="catalogue"),
            code_version="v1",
        )

    def settle(self, order: Order, **ending: Any) -> dict[str, Any]:
        """Settle an attempt; `worker`, `worker_error` or `nested_error` say how it ended."""
        state = settle(self.ledger, {"order": order.to_payload(), **ending}, lambda _metric, _value: None)
        self.verdicts.append(state["verdict"])
        self.states.append(state)
        return state

    def attempt(self, order: Order, **limits: Any) -> dict[str, Any]:
        """One execution of the stage machine: the worker, once more if an error escapes it, and Settle."""
        return self.settle(order, **self.work(order, **limits))

    def work(self, order: Order, **limits: Any) -> dict[str, Any]:
        ending: dict[str, Any] = {}
        for _ in range(2):
            try:
                return {"worker": self.invoke(order, **limits)}
            except Exception as error:  # noqa: BLE001  the state machine's Catch
                cause = json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)})
                ending = {"worker_error": {"Error": type(error).__name__, "Cause": cause}}
        return ending

    def to_end(self, order: Order, **limits: Any) -> dict[str, Any]:
        """Attempts until the stage has a result."""
        state = self.attempt(order, **limits)
        while state["next"]:
            state = self.attempt(self.deeper(state), **limits)
        return state

    # What the ledger says

    @property
    def the_plan(self) -> Plan:
        return read_plan(self.ledger, KEYS)

    def settlement(self, attempt: int) -> Settlement:
        found = read_settlement(self.ledger, self.the_plan, attempt)
        assert found is not None
        return found

    def evidence(self, attempt: int = 0) -> Evidence:
        order = self.settlement(attempt - 1).next
        segments = read_segments(self.ledger, KEYS.attempt(attempt))
        return fold(segments, digest=self.the_plan.digest, order=order, ledger=self.ledger)

    def segments(self, attempt: int = 0) -> list[Segment | None]:
        return list(read_segments(self.ledger, KEYS.attempt(attempt)))

    def batch_ids(self) -> list[str]:
        return [i for _, ids in blocks_of(self.ledger, self.the_plan) for i in ids]

    def outputs(self) -> list[tuple[str, Any]]:
        """What the next stage reads: ids and data of the manifest's lines, in order."""
        manifest = SuccessManifest.from_json(self.ledger.read_json(KEYS.successes))
        return outputs_of(self.store, manifest)

    def failures(self) -> list[dict[str, Any]]:
        if (self.store.bucket, KEYS.failures) not in self.store.objects:
            return []
        return [json.loads(line) for line in self.ledger.read_lines(KEYS.failures)]

    def failed_ids(self) -> dict[str, str]:
        """Kind by record id; a record that is listed twice fails the test."""
        failures = self.failures()
        ids = Counter(failure["record_id"] for failure in failures)
        assert not [i for i, n in ids.items() if n > 1]
        return {failure["record_id"]: failure["kind"] for failure in failures}

    def counts(self) -> dict[str, int]:
        found: dict[str, int] = self.ledger.read_json(KEYS.result)["counts"]
        return found


def outputs_of(store: MemoryStore, manifest: SuccessManifest) -> list[tuple[str, Any]]:
    """Ids and data of a manifest's lines; the sidecars must tell the same ids."""
    source = SuccessesSource(store, manifest)
    ids = [i for some in source.ids() for i in some]
    whole = [RowSpan(0, 0, len(ids))]
    lines = [source.decode(row) for chunk in source.chunks(whole) for row in chunk.rows]
    assert [i for i, _ in lines] == ids
    assert len(lines) == manifest.lines
    return lines


def journal(
    stage: Stage,
    *,
    attempt: int = 0,
    invocation: str = "INV1",
    sequence: int = 0,
    succeeded: Iterable[int] = (),
    skipped: Iterable[int] = (),
    failed: Mapping[Kind, Iterable[int]] | None = None,
    outputs: bool = True,
    **fields: Any,
) -> Segment:
    """Write a segment, with an output line `out-<ordinal>` for each success, by hand."""
    keys = KEYS.attempt(attempt)
    done = sorted(succeeded)
    if failed and "failures_key" not in fields:
        fields["failures_key"] = write_failures(stage, keys, invocation, sequence, failed)
    written = write_outputs(stage.ledger, keys, invocation, sequence, done) if outputs and done else None
    segment = Segment(
        **{
            "batch": stage.the_plan.digest,
            "invocation": invocation,
            "sequence": sequence,
            "succeeded": Ranges.of(done),
            "skipped": Ranges.of(skipped),
            "failed": {kind: Ranges.of(ordinals) for kind, ordinals in (failed or {}).items()},
            "outputs": written,
            "horizon": 10_000,
            "written_at": f"2026-11-20T12:00:{sequence:02d}.000Z",
            **fields,
        }
    )
    stage.ledger.write_json(keys.segment(invocation, sequence), segment.to_json())
    return segment


def write_failures(
    stage: Stage, keys: AttemptKeys, invocation: str, sequence: int, failed: Mapping[Kind, Iterable[int]]
) -> str:
    key = keys.failures(invocation, sequence)
    names = dict(enumerate(stage.batch_ids()))
    reports = [
        FailureReport(
            ordinal=ordinal,
            record_id=names.get(ordinal, "unknown"),
            kind=kind,
            error_type="Reported",
            message=f"{kind} in {invocation}",
        )
        for kind, ordinals in failed.items()
        for ordinal in ordinals
    ]
    write_reports(stage.ledger, key, STAGE, reports)
    return key


def write_outputs(
    ledger: Ledger, keys: AttemptKeys, invocation: str, sequence: int, ordinals: Sequence[int]
) -> OutputSegment:
    key = keys.outputs(invocation, sequence, "ndjson.gz")
    ids_key = keys.output_ids(invocation, sequence)
    lines = [json.dumps({"id": f"out-{n}", "from": f"r{n}", "data": {"by": invocation}}) for n in ordinals]
    ledger.write_lines(key, iter(lines))
    ids_digest = ledger.write_json(ids_key, {"ids": [f"out-{n}" for n in ordinals], "of": list(ordinals)})
    digest = digest_of(ledger.store.get(key).body)
    return OutputSegment(key=key, ids_key=ids_key, lines=len(lines), digest=digest, ids_digest=ids_digest)
