"""Settle: after an attempt, write down what is outstanding and why, and say what happens next.

Settle writes in two steps, so that it may be killed, retried or run twice: first the settlement, which is written once and
decides; then the documents that follow from it, which can be written again at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from winnow.batch.plan import Plan, read_plan
from winnow.core.contract import Kind, Order, Verdict, attempt_execution_name
from winnow.core.errors import LedgerConflict
from winnow.core.keys import StageKeys
from winnow.core.sfn_errors import was_stopped
from winnow.journal.evidence import Evidence, fold, read_segments
from winnow.metrics.metric import Metric
from winnow.settlement.conclusion import conclude
from winnow.settlement.derive import derive_settlement
from winnow.settlement.ended_attempt import EndedAttempt, WorkerEnd, error_in_one_line
from winnow.settlement.result import StageResult
from winnow.settlement.settlement import FINAL, Settlement, read_settlement
from winnow.storage.ledger import Ledger

Count = Callable[[Metric, float], None]


def settle(ledger: Ledger, state: Mapping[str, Any], count: Count) -> dict[str, Any]:
    """Settle what the state machine's data describes, and say what the machine does next.

    Args:
        ledger: where the stage run is planned and journaled.
        state: `order`, and `worker`, `worker_error` or `nested_error`.
        count: takes metrics.

    Returns:
        The state machine's next data: `verdict`, `order`, `output`, `cause`, `next`, `next_name`, `wait_seconds`, `alert`.
    """
    order = Order.from_event(state["order"])
    plan = read_plan(ledger, StageKeys(order.run_id, order.stage))
    if "nested_error" in state:
        settlement = _settle_to_the_end(ledger, plan, order, state["nested_error"])
    else:
        settlement = _settle_ordered_attempt(ledger, plan, order, WorkerEnd.from_state(state))
    result = write_what_follows(ledger, plan, settlement)
    if result:
        _count_result(count, result)
    count(Metric.RETRIED, len(settlement.next) if settlement.verdict is Verdict.RETRY else 0)
    return _next_state(ledger, plan, order, settlement, result)


def _settle_ordered_attempt(ledger: Ledger, plan: Plan, order: Order, end: WorkerEnd) -> Settlement:
    """Settle the attempt that the state machine has just made."""
    found = read_settlement(ledger, plan, order.attempt)
    if found:
        return found
    before = read_settlement(ledger, plan, order.attempt - 1)
    if before is None:
        raise LookupError(
            f"attempt {order.attempt} of {plan.stage} cannot be settled before attempt {order.attempt - 1}"
        )
    attempt = EndedAttempt(
        plan=plan,
        before=before,
        evidence=_read_evidence(ledger, plan, before),
        number=order.attempt,
        try_count=order.try_count,
        policy=order.policy,
        end=end,
    )
    return _write_once(ledger, plan, derive_settlement(attempt))


def _settle_to_the_end(ledger: Ledger, plan: Plan, order: Order, caught: Mapping[str, Any]) -> Settlement:
    """The nested execution failed or was stopped: settle what the journals prove, attempt by attempt, until it is final.

    Where it was stopped and tries are left, this execution goes on with what is left: after the last attempt that was settled,
    if that is a deeper one than its own. The name of the next attempt is free then.
    """
    stopped = was_stopped(str(caught.get("Cause") or ""))
    settlement = read_settlement(ledger, plan, order.attempt)
    if settlement is None:
        raise LookupError(f"attempt {order.attempt} of {plan.stage} went deeper before it was settled")
    while settlement.verdict not in FINAL:
        following = settlement.attempt + 1
        found = read_settlement(ledger, plan, following)
        if found is None:
            began = ledger.find_json(plan.keys.attempt(following).claim) is not None
            if stopped and not began and settlement.attempt > order.attempt:
                break
            found = _settle_dead_attempt(
                ledger, plan, order, before=settlement, began=began, stopped=stopped, caught=caught
            )
        settlement = found
    return settlement


def _settle_dead_attempt(
    ledger: Ledger,
    plan: Plan,
    order: Order,
    *,
    before: Settlement,
    began: bool,
    stopped: bool,
    caught: Mapping[str, Any],
) -> Settlement:
    """Settle an attempt whose execution ended without settling it, and may have ended before it began."""
    number = before.attempt + 1
    attempt = EndedAttempt(
        plan=plan,
        before=before,
        evidence=_read_evidence(ledger, plan, before),
        number=number,
        try_count=before.try_count + (began and before.verdict is Verdict.RETRY),
        policy=order.policy,
        end=WorkerEnd(began=began),
        recursion_error=error_in_one_line(caught),
        stopped=stopped,
    )
    return _write_once(ledger, plan, derive_settlement(attempt))


def _read_evidence(ledger: Ledger, plan: Plan, before: Settlement) -> Evidence:
    """What the journal of the attempt after a settlement proves."""
    segments = read_segments(ledger, plan.keys.attempt(before.attempt + 1))
    evidence = fold(segments, digest=plan.digest, order=before.next, ledger=ledger)
    if not before.own_ids and not any(entry.own_ids for entry in evidence.entries):
        return evidence
    # Imported here: most stages make no ids of their own.
    from winnow.settlement.clashes import without_clashes  # noqa: PLC0415

    return without_clashes(ledger, plan, before, evidence)


def _write_once(ledger: Ledger, plan: Plan, settlement: Settlement) -> Settlement:
    """Write a settlement. If another Settle was faster, its settlement counts."""
    key = plan.keys.attempt(settlement.attempt).settlement
    try:
        ledger.write_json(key, settlement.to_json(), if_absent=True)
    except LedgerConflict:
        return ledger.read(key, Settlement.from_json)
    return settlement


def write_what_follows(ledger: Ledger, plan: Plan, settlement: Settlement) -> StageResult | None:
    """Write a final settlement's lists and result, and the alert of any settlement that has one. Idempotent."""
    if not settlement.alert_now:
        return conclude(ledger, plan, settlement) if settlement.verdict in FINAL else None
    # Imported here: most attempts alert nothing, and their cold start need not load the alert's content.
    from winnow.settlement.alerting import FinalAlert, write_early_alert  # noqa: PLC0415

    if settlement.verdict not in FINAL:
        write_early_alert(ledger, plan, settlement)
        return None
    alert = FinalAlert(settlement)
    result = conclude(ledger, plan, settlement, on_failure=alert.count)
    alert.write(ledger, plan, settlement)
    return result


def _count_result(count: Count, result: StageResult) -> None:
    counts = result.counts
    count(Metric.RECORDS_IN, counts.records_in)
    count(Metric.SUCCEEDED, counts.succeeded)
    count(Metric.SKIPPED, counts.skipped)
    repetitions = counts.repetitions
    count(Metric.DUPLICATES, repetitions.duplicates + repetitions.same_outputs)
    count(Metric.SUPERSEDED, repetitions.superseded)
    count(Metric.CONFLICTS, repetitions.conflicts)
    count(Metric.TRIES, result.output.tries)
    count(Metric.WARNINGS, counts.warnings)
    count(Metric.EVIDENCE_REFUSED, counts.refused)
    for kind in Kind:
        count(Metric.failed(kind), result.failed_by_kind.get(kind.value, 0))
    if result.verdict is Verdict.TOTAL_FAILURE:
        count(Metric.TOTAL_FAILURE, 1)


def _next_state(
    ledger: Ledger, plan: Plan, order: Order, settlement: Settlement, result: StageResult | None
) -> dict[str, Any]:
    goes_on = settlement.verdict in (Verdict.RETRY, Verdict.CONTINUE)
    attempt = settlement.attempt + 1
    spent = 1 if settlement.verdict is Verdict.RETRY else 0
    return {
        "verdict": settlement.verdict.value,
        "order": replace(order, attempt=settlement.attempt, try_count=settlement.try_count).to_payload(),
        "output": result.output.to_json() if result else None,
        "cause": settlement.cause or None,
        "next": {
            "run_id": plan.run_id,
            "attempt": attempt,
            "try_count": settlement.try_count + spent,
            "plan": ledger.pointer(plan.keys.plan),
        }
        if goes_on
        else None,
        "next_name": attempt_execution_name(plan.run_id, attempt) if goes_on else None,
        "wait_seconds": settlement.wait_seconds,
        "alert": bool(settlement.alert_now),
    }
