"""PlanRun: what a run is called, what it goes over, and whether it goes ahead at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from winnow.core import keys
from winnow.core.contract import ULID, Pointer, SourceFormat, new_run_id, now
from winnow.core.errors import LedgerConflict, StageInputError
from winnow.core.run_document import RunDocument
from winnow.runs.request import TriggerKind
from winnow.storage.executions import RUNNING
from winnow.storage.state_table import Holder, take_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from winnow.runs.request import RunRequest
    from winnow.storage.executions import Executions
    from winnow.storage.ledger import Ledger
    from winnow.storage.listing import SourceListing
    from winnow.storage.state_table import StateTable

SOURCE = "source"
"""The name of what comes before the first stage in the pipeline machine's data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What the pipeline machine goes on with."""

    run_id: str
    start_at: str
    before: str
    """The stage before `start_at`, or `SOURCE`."""
    records: Pointer | None
    reason: str | None = None
    """Why the run steps aside; None when it goes ahead."""

    def to_payload(self) -> dict[str, Any]:
        records = self.records
        stages = (
            {self.before: {"successes": {"batch_file_location": records.to_payload()}}} if records else {}
        )
        return {
            "run_id": self.run_id,
            "start_at": self.start_at,
            "proceed": self.reason is None,
            "reason": self.reason,
            "stages": stages,
            "only": records.only.to_payload() if records and records.only else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """The pipeline's execution that a plan is made for."""

    arn: str
    name: str

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Self:
        return cls(arn=event["execution"], name=event["name"])


class RunPlanner:
    """Plans runs of one pipeline."""

    def __init__(
        self,
        *,
        pipeline: str,
        stages: Sequence[str],
        ledger: Ledger,
        source: SourceListing,
        state: StateTable,
        executions: Executions,
    ) -> None:
        self._pipeline = pipeline
        self._stages = stages
        self._ledger = ledger
        self._source = source
        self._state = state
        self._executions = executions

    def plan(self, request: RunRequest, execution: Execution) -> RunPlan:
        """Plan a run. Planned again by the same execution (Lambda was retried), it comes out the same.

        Raises:
            StageInputError: the run id belongs to another execution.
        """
        run_id = self._run_id(request, execution)
        reason = self._claim(run_id, request, execution)
        position = self._stages.index(request.start_at)
        return RunPlan(
            run_id=run_id,
            start_at=request.start_at,
            before=self._stages[position - 1] if position else SOURCE,
            records=None if reason else self._records(run_id, request),
            reason=reason,
        )

    def _run_id(self, request: RunRequest, execution: Execution) -> str:
        if request.run_id:
            return request.run_id
        if ULID.fullmatch(execution.name):
            return execution.name
        return self._state.run_of(execution.arn, new_run_id())

    def _claim(self, run_id: str, request: RunRequest, execution: Execution) -> str | None:
        """Make the run id this execution's own, before anything else is written under it; why it steps aside, if it does."""
        run = self._ledger.find(keys.run(run_id), RunDocument.from_json)
        if run is None:
            run = RunDocument(
                run_id=run_id,
                pipeline=self._pipeline,
                stages=tuple(self._stages),
                start_at=request.start_at,
                trigger=request.trigger.to_payload(),
                replay_id=request.replay_id,
                execution=execution.arn,
                started_at=now(),
                records=self._expected(run_id, request),
                stepped_aside=self._overlap(request, Holder(run_id=run_id, execution=execution.arn)),
            )
            try:
                self._ledger.write_json(keys.run(run_id), run.to_json(), if_absent=True)
            except LedgerConflict:
                run = self._ledger.read(keys.run(run_id), RunDocument.from_json)
        if run.execution != execution.arn:
            raise StageInputError(
                "run_id", run_id, f"was used before, by {run.execution}; leave it out for a new one"
            )
        return run.stepped_aside

    def _expected(self, run_id: str, request: RunRequest) -> Pointer:
        """Where the run's records are, or will be."""
        if isinstance(request.records, Pointer):
            return request.records
        key = (
            keys.run_source(run_id)
            if request.records is None
            else keys.StageKeys(run_id, request.start_at).input
        )
        return Pointer(bucket=self._ledger.bucket, key=key)

    def _records(self, run_id: str, request: RunRequest) -> Pointer:
        stage = keys.StageKeys(run_id, request.start_at)
        records = request.records
        if records is None:
            key = keys.run_source(run_id)
            records = self._listed(key, (each.to_record() for each in self._source.objects(request.prefix)))
        elif not isinstance(records, Pointer):
            records = self._listed(stage.input, (record.to_row() for record in records))
        only = request.only
        if only is not None and not isinstance(only, Pointer):
            only = self._listed(stage.only, only)
        return replace(records, only=only) if only else records

    def _listed(self, key: str, rows: Iterable[object]) -> Pointer:
        """A list of records in the ledger, where it does not weigh on the state machine (law 7)."""
        self._ledger.write_records(key, rows)
        return Pointer(bucket=self._ledger.bucket, key=key, format=SourceFormat.NDJSON)

    def _overlap(self, request: RunRequest, holder: Holder) -> str | None:
        """Why a scheduled run has to step aside, if it has to. Other runs were asked for, so they run beside each other."""
        if request.trigger.kind is not TriggerKind.SCHEDULE:
            return None
        other = take_lock(
            self._state,
            self._pipeline,
            holder,
            is_running=lambda other: self._executions.status(other.execution) in RUNNING,
        )
        return (
            f"run {other.run_id} of the schedule before is still running: {other.execution}"
            if other
            else None
        )
