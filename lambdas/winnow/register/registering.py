"""Registers a stage run: brings the failure register up to date with the ledger. Idempotent; may be done late."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any

from winnow.alerts.content import AlertContent, CauseTally, split_new_from_known
from winnow.batch.plan import Plan, find_ids, find_plan, read_plan
from winnow.core.contract import Order, Verdict, now
from winnow.core.errors import LedgerObjectMissing
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges
from winnow.metrics.metric import Metric
from winnow.register.entry import Entry, Status, Success, note_failure, note_success, release
from winnow.register.table import RegisterUnavailable, RunMark
from winnow.settlement.failure_records import FailureRecord, failure_records, read_failures
from winnow.settlement.result import read_result
from winnow.settlement.settlement import FINAL, Settlement, read_settlement, settlements

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

    from winnow.register.table import RegisterTable
    from winnow.storage.ledger import Ledger

WINDOW = 2_000
"""Failure records in memory at once."""


@dataclass(slots=True)
class Registered:
    """The result of registering, in records."""

    failures: int = 0
    new: int = 0
    """Failures that no alert has named yet."""
    known: int = 0
    """Failures of this alert that an earlier alert has named, or that are waived."""
    resolved: int = 0
    open: int | None = None
    """Entries of the stage that are open, of all runs; None if they were not counted."""
    oldest: str = ""
    """When the oldest of those was first seen."""
    tally: CauseTally = field(default_factory=CauseTally)
    """The new failures, by cause."""
    tells: bool = False
    """Whether the attempt has an alert to send."""

    def to_json(self) -> dict[str, Any]:
        return {
            "failures": self.failures,
            "news": self.new,
            "known": self.known,
            "resolved": self.resolved,
            "at": now(),
        }


def register_state(
    ledger: Ledger,
    register: RegisterTable,
    state: Mapping[str, Any],
    count: Callable[[Metric, float], None],
    *,
    deadline: float = inf,
) -> dict[str, Any]:
    """Register the attempt that Settle has just settled.

    Returns:
        The state machine's data, in which `alert` says whether there is an alert to send.

    Args:
        ledger: where the attempt is settled.
        register: where its failures go.
        state: what Settle answered.
        count: takes metrics.
        deadline: by `time.monotonic`; registering gives up then.

    Raises:
        RegisterUnavailable: some failures could not be registered. Closing the run registers them from the ledger.
    """
    verdict = Verdict(state["verdict"])
    if verdict not in FINAL and not state["alert"]:
        return dict(state)
    order = Order.from_event(state["order"])
    plan = read_plan(ledger, StageKeys(order.run_id, order.stage))
    settlement = read_settlement(ledger, plan, order.attempt)
    if settlement is None:
        raise LedgerObjectMissing(f"attempt {order.attempt} of {order.stage} was not settled")
    made = register_attempt(ledger, register, plan, settlement, deadline=deadline)
    _count(count, made)
    return {**state, "alert": state["alert"] and made.tells}


def _count(count: Callable[[Metric, float], None], made: Registered) -> None:
    count(Metric.FAILURES_NEW, made.new)
    count(Metric.FAILURES_KNOWN, made.known)
    if made.open is not None:
        count(Metric.RESOLVED, made.resolved)
        count(Metric.OPEN_FAILURES, made.open)


def register_attempt(
    ledger: Ledger, register: RegisterTable, plan: Plan, settlement: Settlement, *, deadline: float = inf
) -> Registered:
    """Register one settled attempt: what it gave up, and, if it was the last, what succeeded.

    Idempotent. An alert that is not sent yet is narrowed to the failures that no alert has named.

    Raises:
        RegisterUnavailable: some failures could not be registered.
    """
    keys = plan.keys.attempt(settlement.attempt)
    final = settlement.verdict in FINAL
    made = Registered()
    failures = failures_of(ledger, plan, settlement)
    register_failures(register, plan, failures, made, of=settlement.alert_now, deadline=deadline)
    made.known = len(settlement.alert_now) - made.new
    if settlement.alert_now:
        made.tells = _narrow_alert(ledger, keys.alert, keys.alerted, made)
    if final:
        # The mark is written before unresolved entries are read: of two runs that register at the same time, at least one sees the other.
        mark = RunMark(settled_at=settlement.settled_at, run_id=plan.run_id)
        register.mark_run(plan.pipeline, plan.stage, mark)
        resolve_successes(ledger, register, plan, settlement, made, deadline=deadline)
    if made.failures:
        resolve_by_other_runs(ledger, register, plan, made, deadline=deadline)
    ledger.write_json(keys.registered, made.to_json())
    return made


def failures_of(ledger: Ledger, plan: Plan, settlement: Settlement) -> Iterator[FailureRecord]:
    """The failure records of an attempt: all of the stage if it was the last, else those that are not retried.

    From the list that Settle wrote; from the reports themselves if it died between settling and writing that.
    """
    if settlement.verdict in FINAL:
        key, ordinals = plan.keys.failures, settlement.outstanding(plan)
    else:
        key, ordinals = plan.keys.attempt(settlement.attempt).permanent_failures, settlement.alert_now
    if not ordinals:
        return iter(())
    if key in ledger.store.keys(key):
        return read_failures(ledger, key)
    return failure_records(ledger, plan, settlement, ordinals)


def _narrow_alert(ledger: Ledger, alert_key: str, alerted_key: str, made: Registered) -> bool:
    """Narrow an alert to new failures, unless it has been sent; returns whether it has to be sent."""
    found = ledger.find(alert_key, AlertContent.from_json)
    if found is None or ledger.find_json(alerted_key) is not None:
        return bool(made.new)
    content = split_new_from_known(found, new=made.new, known=made.known, new_causes=made.tally)
    ledger.write_json(alert_key, content.to_json())
    return content.needs_alert


def resolve_by_other_runs(
    ledger: Ledger, register: RegisterTable, plan: Plan, into: Registered, *, deadline: float = inf
) -> None:
    """Resolve failures of a run if the records have succeeded, later, in runs that are registered already.

    Raises:
        RegisterUnavailable: as `resolve_successes`.
    """
    for later in register.runs_after(plan.pipeline, plan.stage, plan.created_at):
        if later.run_id == plan.run_id:
            continue
        keys = StageKeys(later.run_id, plan.stage)
        with suppress(LedgerObjectMissing):  # its evidence has expired
            its_plan = read_plan(ledger, keys)
            last = read_result(ledger, keys).attempts - 1
            its_end = read_settlement(ledger, its_plan, last)
            if its_end:
                resolve_successes(ledger, register, its_plan, its_end, into, deadline=deadline)


def register_failures(
    register: RegisterTable,
    plan: Plan,
    failures: Iterable[FailureRecord],
    into: Registered,
    *,
    of: Ranges | None = None,
    deadline: float = inf,
) -> None:
    """Register failure records of a stage run.

    Args:
        register: where to.
        plan: of the stage run.
        failures: its failure records.
        into: counts what is registered.
        of: ordinals that the alert is about; None for all.
        deadline: by `time.monotonic`.

    Raises:
        RegisterUnavailable: the table cannot be changed, or time is up. Registering again later completes it.
    """
    records = iter(failures)
    while window := list(islice(records, WINDOW)):
        if time.monotonic() > deadline:
            raise RegisterUnavailable(
                f"no time left to register more than {into.failures:,} failures of {plan.stage}"
            )
        by_id = {record.record_id: record for record in window}
        is_new: dict[str, bool] = {}

        def change(
            record_id: str, found: Entry | None, by_id: Any = by_id, is_new: Any = is_new
        ) -> Entry | None:
            noted = note_failure(found, by_id[record_id])
            is_new[record_id] = noted.is_new
            return noted.entry if noted.changed else None

        register.apply(plan.pipeline, plan.stage, by_id, change, deadline=deadline)
        into.failures += len(by_id)
        for record_id, record in by_id.items():
            if is_new[record_id] and (of is None or record.ordinal in of):
                into.new += 1
                record.count_in(into.tally)


def resolve_successes(
    ledger: Ledger,
    register: RegisterTable,
    plan: Plan,
    settlement: Settlement,
    into: Registered,
    *,
    deadline: float = inf,
) -> None:
    """Resolve entries of records that succeeded in this run. Costs a query for unresolved entries, not a read per success.

    Raises:
        RegisterUnavailable: the table cannot be changed, or time is up. Registering again later completes it.
    """
    owed: set[str] = set()
    waived = 0
    into.oldest = ""
    for entry in register.unresolved_in_brief(plan.pipeline, plan.stage):
        owed.add(entry.record_id)
        if entry.status is Status.WAIVED:
            waived += 1
        elif not into.oldest or entry.first_seen < into.oldest:
            into.oldest = entry.first_seen
    resolved = 0
    if owed:
        done = _successes(ledger, plan, settlement, owed)
        resolved = register.apply(
            plan.pipeline,
            plan.stage,
            done,
            lambda record_id, found: note_success(found, done[record_id]) if found else None,
            deadline=deadline,
        )
    into.resolved += resolved
    into.open = max(0, len(owed) - waived - resolved)


def _successes(
    ledger: Ledger, plan: Plan, settlement: Settlement, owed: AbstractSet[str]
) -> dict[str, Success]:
    """Of some records those that succeeded in this run, and rejected rows that the list does not have any more."""
    ref = plan.source
    source = {"bucket": ref.pointer.bucket, "key": ref.pointer.key, "modified": ref.modified}
    found = dict(find_ids(ledger, plan, owed, among=settlement.succeeded | settlement.skipped))
    done_at: dict[int, str] = {}
    if found:
        # Imported here: most runs resolve nothing, and their cold start need not load the readers of journals.
        from winnow.settlement.done_times import times_done  # noqa: PLC0415

        done_at = times_done(ledger, plan, settlement, Ranges.of(found))
    successes = {
        record_id: Success(run_id=plan.run_id, at=done_at[ordinal], source=source)
        for ordinal, record_id in found.items()
    }
    if ref.etag and not plan.subset:
        gone = Success(run_id=plan.run_id, at=plan.created_at, source=source)
        successes |= {each: gone for each in owed if ref.is_row_of_another_version(each)}
    return successes


def catch_up(ledger: Ledger, register: RegisterTable, stage: StageKeys, *, deadline: float = inf) -> int:
    """Register settled attempts of a stage run that are not registered yet; returns their number.

    Where Settle died before it wrote an attempt's alert, that is written first, with the lists that it names: a failure that is
    on record counts as told.

    Raises:
        RegisterUnavailable: some are still not registered.
    """
    plan = find_plan(ledger, stage)
    if plan is None:
        return 0
    behind = 0
    for settlement in settlements(ledger, plan):
        owing = settlement.verdict in FINAL or settlement.alert_now
        if owing and ledger.find_json(stage.attempt(settlement.attempt).registered) is None:
            if settlement.alert_now and ledger.find_json(stage.attempt(settlement.attempt).alert) is None:
                _write_what_follows(ledger, plan, settlement)
            register_attempt(ledger, register, plan, settlement, deadline=deadline)
            behind += 1
    return behind


def _write_what_follows(ledger: Ledger, plan: Plan, settlement: Settlement) -> None:
    # Imported here: Settle seldom dies just there.
    from winnow.settlement.settle import write_what_follows  # noqa: PLC0415

    write_what_follows(ledger, plan, settlement)


def release_holds(register: RegisterTable, pipeline: str, stages: Sequence[str], replay_id: str) -> int:
    """End the holds that a replay still has after it ended; returns how many entries it held."""
    released = 0
    for stage in stages:
        held = [
            each.record_id
            for each in register.unresolved_in_brief(pipeline, stage)
            if each.replay_id == replay_id
        ]
        released += register.apply(
            pipeline, stage, held, lambda _, found: release(found, replay_id=replay_id) if found else None
        )
    return released
