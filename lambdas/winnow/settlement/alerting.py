"""The alert of a settlement: what people are told of the records that it gives up."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from winnow.alerts.content import AlertContent, AlertCounts, CauseTally, Severity
from winnow.batch.plan import Plan
from winnow.core.contract import Pointer, Verdict
from winnow.settlement.failure_records import FailureRecord, failure_records
from winnow.settlement.settlement import FINAL, Settlement
from winnow.storage.ledger import Ledger


def write_alert(ledger: Ledger, plan: Plan, settlement: Settlement) -> None:
    """Write what there is to alert after an attempt. Idempotent."""
    keys = plan.keys.attempt(settlement.attempt)
    is_final = settlement.verdict in FINAL
    tally = CauseTally()
    records = _counted(failure_records(ledger, plan, settlement, settlement.alert_now), tally)
    if is_final:
        failures_key = plan.keys.failures  # lists these among all others
        deque(records, maxlen=0)
    else:
        failures_key = keys.permanent_failures
        ledger.write_lines(failures_key, (record.to_line() for record in records))
    content = AlertContent(
        severity=Severity.CRITICAL if settlement.verdict is Verdict.TOTAL_FAILURE else Severity.ERROR,
        verdict=settlement.verdict.value,
        pipeline=plan.pipeline,
        stage=plan.stage,
        run_id=plan.run_id,
        attempt=settlement.attempt,
        tries=settlement.try_count + 1,
        cause=settlement.cause or None,
        counts=AlertCounts(
            records_in=plan.count,
            succeeded=len(settlement.succeeded),
            skipped=len(settlement.skipped),
            # Before the end the others may still succeed: they are outstanding, not failed.
            failed=len(settlement.outstanding(plan) if is_final else settlement.permanent),
            new=len(settlement.alert_now),
        ),
        causes=tally.causes,
        more_causes=tally.more_causes,
        examples=tally.examples,
        failures_file=Pointer(bucket=ledger.bucket, key=failures_key),
    )
    ledger.write_json(keys.alert, content.to_json())


def _counted(records: Iterable[FailureRecord], tally: CauseTally) -> Iterator[FailureRecord]:
    for record in records:
        record.count_in(tally)
        yield record
