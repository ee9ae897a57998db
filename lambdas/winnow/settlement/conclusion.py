"""What a finished stage leaves behind: the list of failures, the list of successes, and the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from winnow.batch.plan import Plan
from winnow.core.contract import Pointer
from winnow.core.ranges import Ranges
from winnow.journal.successes import SuccessManifest
from winnow.settlement.failure_records import FailureRecord, failure_records
from winnow.settlement.result import StageCounts, StageOutput, StageResult
from winnow.settlement.settlement import Settlement, settlements_up_to
from winnow.storage.ledger import Ledger

OnFailure = Callable[[FailureRecord], None]


def conclude(
    ledger: Ledger, plan: Plan, last: Settlement, on_failure: OnFailure | None = None
) -> StageResult:
    """Write what a finished stage leaves behind. Idempotent: all of it follows from the settlements.

    Args:
        ledger: where the stage run is settled.
        plan: of the stage run.
        last: its final settlement.
        on_failure: is called with each failure record as it is written.
    """
    outstanding = last.outstanding(plan)
    failed_by_kind = _write_failures(ledger, plan, last, outstanding, on_failure)
    lost_in_run = plan.lost_upstream + len(outstanding)
    _write_successes(ledger, plan, last, lost_in_run)
    result = _result(ledger, plan, last, failed_by_kind, lost_in_run)
    # Last, since it says that the stage is done.
    ledger.write_json(plan.keys.result, result.to_json())
    return result


def _write_failures(
    ledger: Ledger, plan: Plan, last: Settlement, outstanding: Ranges, on_failure: OnFailure | None
) -> Counter[str]:
    """Write a failure record for each outstanding record; returns their number by kind."""
    kinds: Counter[str] = Counter()
    if outstanding:
        records = failure_records(ledger, plan, last, outstanding)
        ledger.write_lines(plan.keys.failures, _lines(records, kinds, on_failure))
    return kinds


def _lines(
    records: Iterable[FailureRecord], kinds: Counter[str], on_failure: OnFailure | None
) -> Iterator[str]:
    for record in records:
        if on_failure:
            on_failure(record)
        kinds[record.kind.value] += 1
        yield record.to_line()


def _write_successes(ledger: Ledger, plan: Plan, last: Settlement, lost_in_run: int) -> None:
    entries = [entry for each in settlements_up_to(ledger, plan, last) for entry in each.entries]
    manifest = SuccessManifest(
        run_id=plan.run_id,
        stage=plan.stage,
        records=len(last.succeeded),
        lines=sum(entry.lines for entry in entries),
        lost_in_run=lost_in_run,
        entries=tuple(entries),
    )
    ledger.write_json(plan.keys.successes, manifest.to_json())


def _result(
    ledger: Ledger, plan: Plan, last: Settlement, failed_by_kind: Counter[str], lost_in_run: int
) -> StageResult:
    succeeded, skipped = len(last.succeeded), len(last.skipped)
    failed = len(last.outstanding(plan))
    return StageResult(
        verdict=last.verdict,
        cause=last.cause,
        output=StageOutput(
            run_id=plan.run_id,
            stage=plan.stage,
            tries=last.try_count + 1,
            succeeded=succeeded,
            successes=Pointer(bucket=ledger.bucket, key=plan.keys.successes),
            skipped=skipped,
            failed=failed,
            failures=Pointer(bucket=ledger.bucket, key=plan.keys.failures) if failed else None,
            lost_in_run=lost_in_run,
        ),
        counts=StageCounts(
            records_in=plan.count,
            succeeded=succeeded,
            skipped=skipped,
            failed=failed,
            repetitions=last.repetitions(plan),
            deleted=last.counters.get("deleted", 0),
            warnings=last.counters.get("warnings", 0),
            refused=last.counters.get("refused", 0),
            repeated=last.counters.get("repeated", 0),
            retried=last.counters.get("retried", 0),
        ),
        failed_by_kind=failed_by_kind,
        skip_reasons=last.skip_reasons,
        warned=last.warned,
        attempts=last.attempt + 1,
        settled_at=last.settled_at,
    )
