"""The register made again from the ledger, which is the truth: every stage run in the order in which it was settled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from winnow.batch.plan import find_plan, read_plan
from winnow.core.contract import Verdict
from winnow.core.errors import DamagedDocument, LedgerObjectMissing
from winnow.core.keys import StageKeys
from winnow.register.entry import Entry, Status
from winnow.register.registering import (
    Registered,
    failures_of,
    register_failures,
    resolve_by_other_runs,
    resolve_successes,
)
from winnow.register.table import RunMark
from winnow.settlement.settlement import FINAL, read_settlement, settlements

if TYPE_CHECKING:
    from winnow.batch.plan import Plan
    from winnow.core.run_document import RunDocument
    from winnow.register.table import RegisterTable
    from winnow.settlement.settlement import Settlement
    from winnow.storage.ledger import Ledger
    from winnow.testing import MemoryRegister


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settled:
    """An attempt that changed the register when it was settled."""

    at: str
    run_id: str
    stage: str
    attempt: int


@dataclass(slots=True)
class History:
    """What was read of a ledger's runs."""

    stage_runs: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    """By run id: why it cannot be read. The other runs are read all the same."""


def replay_history(ledger: Ledger, runs: Iterable[RunDocument], register: RegisterTable) -> History:
    """Register everything that the ledger knows of, in order.

    Args:
        ledger: of the pipeline.
        runs: each one's `run.json`.
        register: an empty one.
    """
    history = History()
    events: list[_Settled] = []
    for run in runs:
        try:
            events += list(_events(ledger, run))
        except (DamagedDocument, LedgerObjectMissing) as error:
            history.damaged[run.run_id] = str(error)
    for event in sorted(events, key=lambda each: (each.at, each.run_id, each.attempt)):
        try:
            plan = read_plan(ledger, StageKeys(event.run_id, event.stage))
            settlement = read_settlement(ledger, plan, event.attempt)
            assert settlement is not None
            _register(ledger, register, plan, settlement)
        except (DamagedDocument, LedgerObjectMissing) as error:
            history.damaged.setdefault(event.run_id, str(error))
    history.stage_runs = len({(event.run_id, event.stage) for event in events})
    return history


def _events(ledger: Ledger, run: RunDocument) -> Iterator[_Settled]:
    for stage in run.stages:
        plan = find_plan(ledger, StageKeys(run.run_id, stage))
        if plan is None:
            continue
        for settlement in settlements(ledger, plan):
            if settlement.verdict in FINAL or (settlement.verdict is Verdict.RETRY and settlement.alert_now):
                yield _Settled(
                    at=settlement.settled_at, run_id=run.run_id, stage=stage, attempt=settlement.attempt
                )


def _register(ledger: Ledger, register: RegisterTable, plan: Plan, settlement: Settlement) -> None:
    into = Registered()
    register_failures(register, plan, failures_of(ledger, plan, settlement), into)
    if settlement.verdict in FINAL:
        mark = RunMark(settled_at=settlement.settled_at, run_id=plan.run_id)
        register.mark_run(plan.pipeline, plan.stage, mark)
        resolve_successes(ledger, register, plan, settlement, into)
    if into.failures:
        resolve_by_other_runs(ledger, register, plan, into)


@dataclass(slots=True)
class Difference:
    """What a register says otherwise than the ledger, in records."""

    stage_runs: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    """By run id: why it cannot be read. What the register knows of these runs is kept."""
    same: int = 0
    missing: list[str] = field(default_factory=list)
    """The ledger has them, the register does not."""
    changed: list[str] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)
    """The register has them, the ledger does not (any more): they stay as they are."""
    kept: int = 0
    """Entries with something that only the register knows: a hold, a waiver, occurrences whose evidence has expired."""

    @property
    def to_write(self) -> int:
        return len(self.missing) + len(self.changed)

    def to_json(self) -> dict[str, object]:
        return {
            "stage_runs": self.stage_runs,
            "damaged_runs": self.damaged,
            "same": self.same,
            "missing": len(self.missing),
            "changed": len(self.changed),
            "beyond_the_ledger": len(self.beyond),
            "kept": self.kept,
            "to_write": self.to_write,
        }


def reconcile(found: Entry | None, rebuilt: Entry, *, known_runs: frozenset[str], now: str) -> Entry:
    """The entry to write: as the ledger tells it, with what only the register knows.

    That is a hold, a waiver, a reopening with all that came of it, and occurrences and successes in runs that the ledger does not
    have any more, or cannot read.
    """
    if found is None:
        return replace(rebuilt, version=1)
    rebuilt = _with_order_of(found, rebuilt, known_runs)
    rebuilt = _with_reopening(found, rebuilt)
    seen = {each.run_id for each in rebuilt.history}
    lost = [each for each in found.history if each.run_id not in seen and each.run_id not in known_runs]
    entry = rebuilt
    if lost or found.occurrences > rebuilt.occurrences + len(lost):
        history = tuple(sorted((*lost, *rebuilt.history), key=lambda each: (each.at, each.run_id)))
        entry = replace(
            rebuilt,
            history=history[-len(found.history) :] if len(history) > len(found.history) else history,
            occurrences=max(found.occurrences, rebuilt.occurrences + len(lost)),
            first_seen=min(found.first_seen, rebuilt.first_seen),
        )
    if rebuilt.status is Status.OPEN:
        if found.resolution and found.resolution.run_id not in known_runs:
            entry = replace(entry, status=found.status, resolution=found.resolution)
        elif found.held(now):
            entry = replace(entry, status=found.status, hold=found.hold, waiver=found.waiver)
        elif found.waived(now) and found.waiver and found.waiver.fingerprint == entry.last.fingerprint:
            entry = replace(entry, status=found.status, waiver=found.waiver)
    return replace(entry, version=found.version)


def _with_order_of(found: Entry, rebuilt: Entry, known_runs: frozenset[str]) -> Entry:
    """With what depends on the order in which runs registered: which of them alerted a failure, and which resolved it."""
    told = (found.told_by, found.alerted)
    if found.told_by in known_runs and told in {(each.run_id, each.fingerprint) for each in rebuilt.history}:
        rebuilt = replace(rebuilt, told_by=found.told_by, alerted=found.alerted)
    both = found.status is Status.RESOLVED and rebuilt.status is Status.RESOLVED
    if both and found.resolution and found.resolution.run_id in known_runs:
        rebuilt = replace(rebuilt, resolution=found.resolution)
    return rebuilt


def _with_reopening(found: Entry, rebuilt: Entry) -> Entry:
    """The ledger knows nothing of an operator who opened an entry again after its record had succeeded."""
    rebuilt = replace(rebuilt, reopening=found.reopening)
    if not (found.reopening and rebuilt.resolution and rebuilt.resolution.at < found.reopening.at):
        return rebuilt
    return replace(
        rebuilt, status=found.status, hold=found.hold, waiver=found.waiver, resolution=found.resolution
    )


def compare(
    register: RegisterTable,
    rebuilt: MemoryRegister,
    *,
    pipeline: str,
    stages: Sequence[str],
    known_runs: frozenset[str],
    now: str,
    write: bool,
    say: Callable[[str], None] = lambda _: None,
) -> Difference:
    """Compare a register with what the ledger makes of it, and put right what differs.

    Args:
        register: the real one.
        rebuilt: made by `replay_history`.
        pipeline: its name.
        stages: of the pipeline.
        known_runs: the ledger's, those that can be read.
        now: this moment.
        write: whether to put it right.
        say: told how far it is.
    """
    difference = Difference()
    lock = threading.Lock()
    for stage in stages:
        entries = rebuilt.entries.get((pipeline, stage), {})
        say(f"{stage}: {len(entries):,} failures")
        if write:
            for mark in rebuilt.marks.get((pipeline, stage), ()):
                register.mark_run(pipeline, stage, mark)
        wanted: dict[str, str] = {}

        def change(
            record_id: str,
            found: Entry | None,
            entries: dict[str, Entry] = entries,
            wanted: dict[str, str] = wanted,
        ) -> Entry | None:
            standing = reconcile(found, entries[record_id], known_runs=known_runs, now=now)
            with lock:
                if found is None:
                    wanted[record_id] = "missing"
                elif standing != found:
                    wanted[record_id] = "changed"
                else:
                    wanted[record_id] = (
                        "kept" if standing != replace(entries[record_id], version=found.version) else "same"
                    )
            if not write or standing == found:
                return None
            return standing if found is None else replace(standing, version=found.version + 1)

        register.apply(pipeline, stage, entries, change)
        for record_id, what in wanted.items():
            if what == "missing":
                difference.missing.append(record_id)
            elif what == "changed":
                difference.changed.append(record_id)
            else:
                difference.same += 1
                difference.kept += what == "kept"
        difference.beyond += [
            entry.record_id for entry in register.all(pipeline, stage) if entry.record_id not in entries
        ]
    return difference
