"""The alert of a settlement: what people are told of the records that it gives up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from winnow.alerts.content import AlertContent, AlertCounts, CauseTally, Severity
from winnow.batch.plan import Plan
from winnow.core.contract import Pointer, Verdict
from winnow.settlement.failure_records import FailureRecord, failure_records
from winnow.settlement.settlement import Settlement
from winnow.storage.ledger import Ledger


class FinalAlert:
    """The alert of a final settlement. Its failures are counted while the stage's failure list is written."""

    def __init__(self, settlement: Settlement) -> None:
        self._to_alert = settlement.alert_now
        self._tally = CauseTally()

    def count(self, failure: FailureRecord) -> None:
        """Count a failure record, unless an earlier alert told it."""
        if failure.ordinal in self._to_alert:
            failure.count_in(self._tally)

    def write(self, ledger: Ledger, plan: Plan, settlement: Settlement) -> None:
        """Write the alert. Idempotent."""
        failed = len(settlement.outstanding(plan))
        _write(ledger, plan, settlement, self._tally, failed=failed, failures_key=plan.keys.failures)


def write_early_alert(ledger: Ledger, plan: Plan, settlement: Settlement) -> None:
    """Write the list and the alert of the permanent failures of an attempt that another one follows. Idempotent."""
    tally = CauseTally()
    key = plan.keys.attempt(settlement.attempt).permanent_failures
    records = failure_records(ledger, plan, settlement, settlement.alert_now)
    ledger.write_lines(key, _counted_lines(records, tally))
    # The others may still succeed: they are outstanding, not failed.
    _write(ledger, plan, settlement, tally, failed=len(settlement.permanent), failures_key=key)


def _counted_lines(records: Iterable[FailureRecord], tally: CauseTally) -> Iterator[str]:
    for record in records:
        record.count_in(tally)
        yield record.to_line()


def _write(
    ledger: Ledger, plan: Plan, settlement: Settlement, tally: CauseTally, *, failed: int, failures_key: str
) -> None:
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
            failed=failed,
            new=len(settlement.alert_now),
            repetitions=settlement.repetitions(plan),
        ),
        causes=tally.causes,
        more_causes=tally.more_causes,
        examples=tally.examples,
        failures_file=Pointer(bucket=ledger.bucket, key=failures_key),
    )
    ledger.write_json(plan.keys.attempt(settlement.attempt).alert, content.to_json())
