"""Settle: after an attempt, write down what is outstanding and why, and say what happens next.

Written in two steps, so that a Settle that is killed, retried or run twice does no harm: the settlement, which exists once and
decides; and the documents that follow from it, which can be made again at any time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from winnow.alerts.content import AlertContent, AlertCounts, CauseTally, Severity
from winnow.batch.plan import Plan, read_plan
from winnow.core.contract import Kind, Order, Pointer, Policy, Verdict
from winnow.core.errors import LedgerConflict
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges
from winnow.journal.evidence import fold, read_segments
from winnow.journal.successes import SuccessManifest
from winnow.metrics.metric import Metric
from winnow.settlement.failure_records import AttemptReports, describe
from winnow.settlement.settlement import (
    FINAL,
    Settlement,
    WorkerEnd,
    read_settlement,
    settle_attempt,
    settlements_up_to,
)
from winnow.storage.jsonlines import dumps
from winnow.storage.ledger import Ledger

Count = Callable[[Metric, float], None]


def settle(ledger: Ledger, state: Mapping[str, Any], count: Count) -> dict[str, Any]:
    """Settle what the state machine's data describes, and say what the machine does next.

    Args:
        state: `order`, and `worker`, `worker_error` or `nested_error`.
        count: takes metrics.

    Returns:
        The state machine's next data: `verdict`, `order`, `output`, `cause`, `next`, `next_name`, `wait_seconds`, `alert`.
    """
    order = Order.from_event(state["order"])
    plan = read_plan(ledger, StageKeys(order.run_id, order.stage))
    if "nested_error" in state:
        settlement = _settle_what_is_proven(ledger, plan, order)
    else:
        settlement = _settle_once(
            ledger,
            plan,
            attempt=order.attempt,
            try_count=order.try_count,
            policy=order.policy,
            end=WorkerEnd.from_state(state),
        )
    output = None
    if settlement.verdict in FINAL:
        output, kinds = conclude(ledger, plan, settlement)
        _count_result(count, plan, settlement, kinds)
    count(Metric.RETRIED, len(settlement.next) if settlement.verdict is Verdict.RETRY else 0)
    if settlement.alert_now:
        _write_alert(ledger, plan, settlement)
    return _next_state(ledger, plan, order, settlement, output)


def _settle_once(
    ledger: Ledger,
    plan: Plan,
    *,
    attempt: int,
    try_count: int,
    policy: Policy,
    end: WorkerEnd,
    recursion_died: bool = False,
) -> Settlement:
    """Settle an attempt that may have been settled already; then what was written first stands."""
    found = read_settlement(ledger, plan, attempt)
    if found:
        return found
    before = read_settlement(ledger, plan, attempt - 1)
    if before is None:
        raise LookupError(f"attempt {attempt} of {plan.stage} cannot be settled before attempt {attempt - 1}")
    keys = plan.keys.attempt(attempt)
    evidence = fold(read_segments(ledger, keys), digest=plan.digest, order=before.next, ledger=ledger)
    settlement = settle_attempt(
        plan,
        before,
        evidence,
        attempt=attempt,
        try_count=try_count,
        policy=policy,
        end=end,
        recursion_died=recursion_died,
    )
    try:
        ledger.write_json(keys.settlement, settlement.to_json(), if_absent=True)
    except LedgerConflict:
        return Settlement.from_json(ledger.read_json(keys.settlement))
    return settlement


def _settle_what_is_proven(ledger: Ledger, plan: Plan, order: Order) -> Settlement:
    """The nested execution failed or was stopped: go on from the deepest attempt that was settled, by it or by us."""
    settlement = read_settlement(ledger, plan, order.attempt)
    if settlement is None:
        raise LookupError(f"attempt {order.attempt} of {plan.stage} went deeper before it was settled")
    while settlement.verdict not in FINAL:
        attempt = settlement.attempt + 1
        began = ledger.find_json(plan.keys.attempt(attempt).claim) is not None
        settlement = _settle_once(
            ledger,
            plan,
            attempt=attempt,
            try_count=settlement.try_count + (began and settlement.verdict is Verdict.RETRY),
            policy=order.policy,
            end=WorkerEnd(began=began),
            recursion_died=True,
        )
    return settlement


def failure_records(
    ledger: Ledger, plan: Plan, settlement: Settlement, ordinals: Ranges
) -> Iterator[dict[str, Any]]:
    """The failure records of some outstanding records as of a settlement."""
    attempts = [
        AttemptReports(settled_at=each.settled_at, failed=each.failed, segments=each.reports)
        for each in settlements_up_to(ledger, plan, settlement)
    ]
    return describe(ledger, plan, ordinals, attempts[::-1], settlement.otherwise)


def conclude(ledger: Ledger, plan: Plan, settlement: Settlement) -> tuple[dict[str, Any], Counter[str]]:
    """Write what a finished stage leaves behind, and make its output; also failures by kind.

    Can be done again: all of it follows from the settlement.
    """
    keys = plan.keys
    outstanding = settlement.outstanding(plan)
    kinds: Counter[str] = Counter()
    if outstanding:
        ledger.write_lines(
            keys.failures, _counted(failure_records(ledger, plan, settlement, outstanding), kinds)
        )
    lost = plan.lost_upstream + len(outstanding)
    entries = [entry for each in settlements_up_to(ledger, plan, settlement) for entry in each.entries]
    manifest = SuccessManifest(
        run_id=plan.run_id,
        stage=plan.stage,
        records=len(settlement.succeeded),
        lines=sum(entry.lines for entry in entries),
        lost_in_run=lost,
        entries=tuple(entries),
    )
    ledger.write_json(keys.successes, manifest.to_json())
    output = {
        "run_id": plan.run_id,
        "stage": plan.stage,
        "tries": settlement.try_count + 1,
        "successes": {
            "count": len(settlement.succeeded),
            "batch_file_location": ledger.pointer(keys.successes),
        },
        "skipped": {"count": len(settlement.skipped)},
        "failures": (
            {"count": len(outstanding), "error_file_location": ledger.pointer(keys.failures)}
            if outstanding
            else None
        ),
        "lost": {"stage": len(outstanding), "run": lost},
    }
    ledger.write_json(
        keys.result,
        {
            "verdict": settlement.verdict.value,
            "cause": settlement.cause or None,
            "output": output,
            "counts": {
                "in": plan.count,
                "succeeded": len(settlement.succeeded),
                "skipped": len(settlement.skipped),
                "failed": len(outstanding),
                "duplicates": plan.duplicates,
                "warnings": settlement.counters.get("warnings", 0),
                "refused": settlement.counters.get("refused", 0),
                "repeated": settlement.counters.get("repeated", 0),
                "retried": settlement.counters.get("retried", 0),
            },
            "failed_by_kind": dict(kinds),
            "skip_reasons": dict(settlement.skip_reasons),
            "warned": dict(settlement.warned),
            "attempts": settlement.attempt + 1,
            "settled_at": settlement.settled_at,
        },
    )
    return output, kinds


def _count_result(count: Count, plan: Plan, settlement: Settlement, kinds: Counter[str]) -> None:
    count(Metric.RECORDS_IN, plan.count)
    count(Metric.SUCCEEDED, len(settlement.succeeded))
    count(Metric.SKIPPED, len(settlement.skipped))
    count(Metric.DUPLICATES, plan.duplicates)
    count(Metric.TRIES, settlement.try_count + 1)
    count(Metric.WARNINGS, settlement.counters.get("warnings", 0))
    count(Metric.EVIDENCE_REFUSED, settlement.counters.get("refused", 0))
    for kind in Kind:
        count(Metric.failed(kind), kinds[kind.value])
    if settlement.verdict is Verdict.TOTAL_FAILURE:
        count(Metric.TOTAL_FAILURE, 1)


def _counted(records: Iterator[dict[str, Any]], kinds: Counter[str]) -> Iterator[str]:
    for record in records:
        kinds[record["kind"]] += 1
        yield dumps(record)


TOLD = ("record_id", "kind", "error_type", "message", "fingerprint")
"""What an alert tells of a failure record."""


def _tallied(records: Iterator[dict[str, Any]], tally: CauseTally) -> Iterator[dict[str, Any]]:
    for record in records:
        tally.add(**{name: record[name] for name in TOLD})
        yield record


def _write_alert(ledger: Ledger, plan: Plan, settlement: Settlement) -> None:
    keys = plan.keys.attempt(settlement.attempt)
    tally = CauseTally()
    outstanding = settlement.outstanding(plan)
    final = settlement.verdict in FINAL
    failures_key = plan.keys.failures if final else keys.permanent_failures
    records = _tallied(failure_records(ledger, plan, settlement, settlement.alert_now), tally)
    if final:
        deque(records, maxlen=0)
    else:
        ledger.write_lines(failures_key, map(dumps, records))
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
            failed=len(outstanding if final else settlement.permanent),
            new=len(settlement.alert_now),
        ),
        causes=tally.causes,
        more_causes=tally.more_causes,
        examples=tally.examples,
        failures_file=Pointer(bucket=ledger.bucket, key=failures_key),
    )
    ledger.write_json(keys.alert, content.to_json())


def _next_state(
    ledger: Ledger, plan: Plan, order: Order, settlement: Settlement, output: dict[str, Any] | None
) -> dict[str, Any]:
    goes_on = settlement.verdict in (Verdict.RETRY, Verdict.CONTINUE)
    attempt = settlement.attempt + 1
    spent = 1 if settlement.verdict is Verdict.RETRY else 0
    return {
        "verdict": settlement.verdict.value,
        "order": replace(order, attempt=settlement.attempt, try_count=settlement.try_count).to_payload(),
        "output": output,
        "cause": settlement.cause or None,
        "next": {
            "run_id": plan.run_id,
            "attempt": attempt,
            "try_count": settlement.try_count + spent,
            "plan": ledger.pointer(plan.keys.plan),
        }
        if goes_on
        else None,
        "next_name": f"{plan.run_id}-{attempt}" if goes_on else None,
        "wait_seconds": settlement.wait_seconds,
        "alert": bool(settlement.alert_now),
    }
