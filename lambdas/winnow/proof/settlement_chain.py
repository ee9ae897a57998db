"""The settlements of a stage, one after the other, each compared with what its attempt's journal proves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from winnow.core.ranges import union
from winnow.journal.evidence import Evidence, fold, read_segments
from winnow.journal.successes import SuccessEntry
from winnow.settlement.settlement import FINAL, Settlement, before_anything, settlements

if TYPE_CHECKING:
    from winnow.batch.plan import Plan
    from winnow.storage.ledger import Ledger

MAX_NAMED = 3
"""Ids or ordinals named in a problem."""


class SettlementChain:
    """Follows the settlements and notes what contradicts the evidence."""

    def __init__(self, ledger: Ledger, plan: Plan) -> None:
        self._ledger = ledger
        self._plan = plan
        self.problems: list[str] = []
        self.entries: list[SuccessEntry] = []
        self.late = 0

    def follow(self) -> Settlement:
        """The last settlement; the state before the first attempt if there is none."""
        before = before_anything(self._plan)
        for settlement in settlements(self._ledger, self._plan):
            self._check(settlement, before)
            self.entries += settlement.entries
            before = settlement
        return before

    def _check(self, settlement: Settlement, before: Settlement) -> None:
        name = f"attempt {settlement.attempt}"
        order = before.next
        evidence = fold(
            read_segments(self._ledger, self._plan.keys.attempt(settlement.attempt)),
            digest=self._plan.digest,
            order=order,
            ledger=self._ledger,
        )
        succeeded = union(segment.succeeded for segment in evidence.segments) & order
        skipped = union(segment.skipped for segment in evidence.segments) & order
        unproved = (settlement.succeeded - before.succeeded - succeeded) | (
            settlement.skipped - before.skipped - skipped
        )
        if unproved:
            self.problems.append(
                f"{name} claims {len(unproved)} records as done that no journal proves: {unproved.first(MAX_NAMED)}"
            )
        if settlement.succeeded & settlement.skipped:
            self.problems.append(
                f"{name} counts {len(settlement.succeeded & settlement.skipped)} records as succeeded and as skipped"
            )
        forgotten = (before.succeeded - settlement.succeeded) | (before.skipped - settlement.skipped)
        if forgotten:
            self.problems.append(
                f"{name} forgets {len(forgotten)} records that were done before: {forgotten.first(MAX_NAMED)}"
            )
        outside = settlement.next - settlement.outstanding(self._plan)
        if outside:
            self.problems.append(
                f"{name} orders {len(outside)} records again that are done: {outside.first(MAX_NAMED)}"
            )
        if before.verdict in FINAL and before.attempt >= 0:
            self.problems.append(f"{name} was made after attempt {before.attempt} had settled the stage")
        self.late += len(
            (succeeded | skipped) - settlement.succeeded - settlement.skipped - settlement.clashed
        )
        self._check_entries(name, settlement, evidence)

    def _check_entries(self, name: str, settlement: Settlement, evidence: Evidence) -> None:
        """The output segments are those that the journal vouches for, as they were written."""
        written = {each.outputs.key: each.outputs for each in evidence.segments if each.outputs}
        for entry in settlement.entries:
            outputs = written.get(entry.key)
            if outputs is None:
                self.problems.append(f"{name} hands on {entry.key}, which no journal names")
            elif (entry.digest, entry.ids_digest) != (outputs.digest, outputs.ids_digest):
                self.problems.append(
                    f"{name} hands on {entry.key} with digests that the journal does not have"
                )
