"""Plan: fixes the batch of a stage run once, as an immutable list of distinct ids, and orders each attempt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from winnow.batch.opening import detect, open_source
from winnow.batch.plan import Plan, find_plan, read_plan
from winnow.batch.rows import Source, SourceRef, Unreadable
from winnow.batch.successes import read_manifest
from winnow.core.contract import (
    Kind,
    OnConflict,
    Order,
    Pointer,
    Policy,
    SourceFormat,
    StageInput,
    Verdict,
    check_run_id,
    new_run_id,
    now,
    record_id_problem,
)
from winnow.core.errors import LedgerConflict, LedgerObjectMissing, StageInputError
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges
from winnow.journal.segment import BY_PLAN, Segment
from winnow.planning.batch_list import BatchList
from winnow.planning.claim import check_run_is_its_own, claim_attempt
from winnow.settlement.settlement import read_settlement
from winnow.storage.ledger import Ledger


def plan_stage(
    ledger: Ledger, stage_input: StageInput, *, pipeline: str, stage: str, policy: Policy, execution: str
) -> Order:
    """Fix the batch of a stage run and give the order for its first attempt.

    Idempotent for the same execution, which may call it again when Lambda is retried.

    Raises:
        StageInputError: the records cannot be read, or the run id belongs to a run that did not start this stage.
        DuplicateAttempt: another execution already runs this stage of this run.
    """
    keys = StageKeys(stage_input.run_id, stage)
    check_run_is_its_own(ledger, stage_input)
    claim_attempt(ledger, keys, 0, execution)
    plan = find_plan(ledger, keys) or _fix(ledger, stage_input, keys, pipeline, policy)
    return Order(
        run_id=plan.run_id,
        pipeline=pipeline,
        stage=stage,
        attempt=0,
        try_count=stage_input.try_count,
        count=plan.count,
        plan=Pointer(bucket=ledger.bucket, key=keys.plan),
        policy=policy,
    )


def continue_stage(
    ledger: Ledger, event: Mapping[str, Any], *, pipeline: str, stage: str, policy: Policy, execution: str
) -> Order:
    """The order for a deeper attempt, which Settle asked for.

    Raises:
        StageInputError: Settle did not ask for this attempt. An attempt that an operator starts by hand would take the
            number of an attempt that the run itself may start later.
        DuplicateAttempt: another execution owns the attempt.
    """
    for name, wanted in (("run_id", str), ("attempt", int), ("try_count", int), ("plan", dict)):
        if type(event.get(name)) is not wanted:
            raise StageInputError(name, event.get(name), f'is wrong beside "plan"; {_BY_HAND}')
    if event["attempt"] < 1:
        raise StageInputError("attempt", event["attempt"], f'is wrong beside "plan"; {_BY_HAND}')
    keys = StageKeys(check_run_id(event["run_id"]), stage)
    attempt, try_count = event["attempt"], event["try_count"]
    plan = _planned(ledger, keys)
    before = read_settlement(ledger, plan, attempt - 1)
    if before is None or not before.next:
        raise StageInputError("attempt", attempt, f"attempt {attempt - 1} has not asked for it; {_BY_HAND}")
    asked = before.try_count + (before.verdict is Verdict.RETRY)
    if try_count != asked:
        raise StageInputError("try_count", try_count, f"is not what was asked for, {asked}; {_BY_HAND}")
    claim_attempt(ledger, keys, attempt, execution)
    return Order(
        run_id=keys.run_id,
        pipeline=pipeline,
        stage=stage,
        attempt=attempt,
        try_count=try_count,
        count=plan.count,
        plan=Pointer(bucket=ledger.bucket, key=keys.plan),
        policy=policy,
    )


_BY_HAND = 'a deeper attempt is not started by hand: start a stage with "records" only'


def _planned(ledger: Ledger, keys: StageKeys) -> Plan:
    try:
        return read_plan(ledger, keys)
    except LedgerObjectMissing as error:
        raise StageInputError("run_id", keys.run_id, f"no such run of this stage; {_BY_HAND}") from error


def _fix(ledger: Ledger, stage_input: StageInput, keys: StageKeys, pipeline: str, policy: Policy) -> Plan:
    pointer = stage_input.records
    if not isinstance(pointer, Pointer):
        ledger.write_records(keys.input, (record.to_row() for record in pointer))
        pointer = Pointer(bucket=ledger.bucket, key=keys.input)
    ref = detect(ledger.store, pointer, max_row_mb=policy.max_row_mb)
    lost = read_manifest(ledger.store, pointer).lost_in_run if ref.format is SourceFormat.SUCCESSES else 0
    if stage_input.only and pointer.only:
        raise StageInputError("only", str(pointer.only), "is given twice, here and in records.only; give one")
    only = _only(ledger, stage_input.only or pointer.only, keys)
    batch_id = new_run_id()
    batch = BatchList(ledger, keys, batch_id, ref, only=only, on_conflict=_on_conflict(ref, policy))
    batch.take(open_source(ledger.store, ref))
    plan = Plan(
        run_id=keys.run_id,
        pipeline=pipeline,
        stage=keys.stage,
        batch_id=batch_id,
        digest=batch.digest,
        count=batch.count,
        source=ref,
        dropped=batch.dropped,
        duplicates=batch.duplicates,
        superseded=batch.superseded,
        conflicts=batch.conflicts,
        rejected=batch.rejected,
        subset=only is not None,
        numbered_ids=batch.numbered_ids,
        lost_upstream=lost,
        created_at=now(),
    )
    _journal_rejected(ledger, plan, batch.reports)
    try:
        ledger.write_json(keys.plan, plan.to_json(), if_absent=True)
    except LedgerConflict:  # an earlier Plan, which Step Functions gave up on, was only slow
        return read_plan(ledger, keys)
    return plan


def _on_conflict(ref: SourceRef, policy: Policy) -> OnConflict:
    """The pipeline's choice is for lists from outside."""
    match ref.format:
        case SourceFormat.SELECTION:
            return OnConflict.FIRST  # its parts are in the order of runs, the newest first
        case SourceFormat.SUCCESSES:
            return OnConflict.FAIL
    return policy.on_conflict


def _only(ledger: Ledger, only: Pointer | tuple[str, ...] | None, keys: StageKeys) -> frozenset[str] | None:
    if only is None:
        return None
    if isinstance(only, Pointer):
        try:
            wanted = frozenset(_asked_for(open_source(ledger.store, detect(ledger.store, only)), only))
        except StageInputError as error:
            raise error.under("only") from error
        if not wanted:
            raise StageInputError("only", str(only), 'holds no id, and that is not "all"')
        return wanted
    ledger.write_records(keys.only, only)
    return frozenset(only)


def _asked_for(source: Source, only: Pointer) -> Iterator[str]:
    """The ids of a subset. An unreadable row is refused. Otherwise the record that it asks for would be lost silently."""
    row = 0
    for ids in source.ids():
        for row, value in enumerate(ids, start=row + 1):  # noqa: B020  goes on counting
            if isinstance(value, Unreadable):
                raise StageInputError("records", str(only), f"line {value.line} {value.problem}")
            if value is None:
                continue
            problem = record_id_problem(value)
            if problem:
                raise StageInputError("records", str(only), f"line {row}: a record id {problem}")
            yield value


def _journal_rejected(ledger: Ledger, plan: Plan, reports: list[tuple[str, Ranges]]) -> None:
    """Journal rejected rows, as a worker would: no worker is given them, so they failed permanently in attempt 0."""
    for sequence, (failures_key, rejected) in enumerate(reports):
        segment = Segment(
            batch=plan.digest,
            invocation=BY_PLAN,
            sequence=sequence,
            succeeded=Ranges.empty(),
            skipped=Ranges.empty(),
            failed={Kind.PERMANENT: rejected},
            failures_key=failures_key,
            written_at=now(),
        )
        key = plan.keys.attempt(0).segment(f"{BY_PLAN}-{plan.batch_id}", sequence)
        ledger.write_json(key, segment.to_json())
