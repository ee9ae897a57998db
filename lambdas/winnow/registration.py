"""Registering a stage run: from what the ledger says to what the register shall say. Can be done late, twice, or again from scratch."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from winnow.plan import BLOCK_IDS, Plan
from winnow.register import Entry, note_failure, note_success

if TYPE_CHECKING:
    from winnow.ledger import Ledger
    from winnow.ranges import Ranges
    from winnow.register_table import RegisterTable
    from winnow.settlement import Settlement

WINDOW = 2_000
"""Failure records in memory at once."""


@dataclass(slots=True)
class Registered:
    """What registering came to, in records."""

    failures: int = 0
    news: set[int] = field(default_factory=set)
    """Ordinals of failures nobody has been told of."""
    resolved: int = 0

    @property
    def known(self) -> int:
        return self.failures - len(self.news)


def register_failures(
    register: RegisterTable, plan: Plan, failures: Iterable[dict[str, Any]], into: Registered
) -> None:
    """Register failure records of a stage run.

    Raises:
        RegisterUnavailable: the table cannot be changed. Doing it again later completes it.
    """
    records = iter(failures)
    while window := list(islice(records, WINDOW)):
        by_id = {record["record_id"]: record for record in window}
        news: dict[str, bool] = {}
        lock = threading.Lock()

        def change(record_id: str, found: Entry | None, by_id: Any = by_id, news: Any = news) -> Entry | None:
            noted = note_failure(found, by_id[record_id])
            with lock:
                news[record_id] = noted.news
            return noted.entry if noted.changed else None

        register.apply(plan.pipeline, plan.stage, by_id, change)
        into.failures += len(by_id)
        into.news.update(by_id[i]["ordinal"] for i, new in news.items() if new)


def resolve_successes(
    ledger: Ledger, register: RegisterTable, plan: Plan, settlement: Settlement, into: Registered
) -> None:
    """Resolve what is owed in this stage and succeeded in this run: costs a query for what is open, not a read per success.

    Raises:
        RegisterUnavailable: the table cannot be changed. Doing it again later completes it.
    """
    owed = {entry.record_id for entry in register.owed(plan.pipeline, plan.stage)}
    if not owed:
        return
    done = settlement.succeeded | settlement.skipped
    into.resolved += register.apply(
        plan.pipeline,
        plan.stage,
        _done_ids(ledger, plan, done, owed),
        lambda _, found: note_success(found, run_id=plan.run_id, at=settlement.settled_at) if found else None,
    )


def _done_ids(ledger: Ledger, plan: Plan, done: Ranges, wanted: set[str]) -> Iterator[str]:
    for block in range(-(-plan.count // BLOCK_IDS)):
        start = block * BLOCK_IDS
        if not done.within(start, start + BLOCK_IDS):
            continue
        ids: list[str] = ledger.read_json(plan.keys.batch(block))
        if wanted.isdisjoint(ids):
            continue
        yield from (i for n, i in enumerate(ids, start) if i in wanted and n in done)


def failures_of(ledger: Ledger, plan: Plan) -> Iterator[dict[str, Any]]:
    """The failure records a finished stage left in the ledger."""
    for line in ledger.read_lines(plan.keys.failures):
        yield json.loads(line)
