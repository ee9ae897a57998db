"""One failure whole: every run it failed in, the reason of each try, and where the record came from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from winnow.batch.plan import find_id, ids_of, read_plan
from winnow.core.contract import SourceFormat
from winnow.core.errors import LedgerObjectMissing
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges
from winnow.journal.reports import ordinal_of_line
from winnow.proof.lineage import Lineage, Place, rows_of
from winnow.settlement.settlement import settlements

if TYPE_CHECKING:
    from winnow.register.entry import Entry
    from winnow.storage.ledger import Ledger

MAX_SHOWN = 20
"""Records of one generation that are shown: an output may join any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """What one attempt said of a record."""

    attempt: int
    at: str
    kind: str
    error_type: str
    message: str

    def to_json(self) -> dict[str, Any]:
        return {
            "attempt": self.attempt,
            "at": self.at,
            "kind": self.kind,
            "error_type": self.error_type,
            "message": self.message,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor:
    """A record as an earlier stage, or an earlier run, knew it."""

    run_id: str
    stage: str
    record_id: str
    source: Mapping[str, Any]
    """Where that stage read it; for the first stage of files the object it stands for."""

    def to_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "stage": self.stage,
            "record_id": self.record_id,
            "source": dict(self.source),
        }


def tries(ledger: Ledger, run_id: str, stage: str, record_id: str) -> list[Try]:
    """The reasons an attempt after the other gave for a record; empty when the evidence is gone."""
    try:
        plan = read_plan(ledger, StageKeys(run_id, stage))
        ordinal = find_id(ledger, plan, record_id)
    except LedgerObjectMissing:
        return []
    if ordinal is None:
        return []
    found: list[Try] = []
    for settlement in settlements(ledger, plan):
        if ordinal in settlement.failed:
            reports = [key for key, ordinals in settlement.reports if ordinal in ordinals]
            report = next((each for key in reports if (each := _report(ledger, key, ordinal))), None)
            said = settlement.default_reason
            found.append(
                Try(
                    attempt=settlement.attempt,
                    at=report["at"] if report else settlement.settled_at,
                    kind=report["kind"] if report else said.kind.value,
                    error_type=report["error_type"] if report else said.error_type,
                    message=report["message"] if report else said.message,
                )
            )
    return found


def _report(ledger: Ledger, key: str, ordinal: int) -> dict[str, Any] | None:
    try:
        for line in ledger.read_lines(key):
            if ordinal_of_line(line) == ordinal:
                found: dict[str, Any] = json.loads(line)
                return found
    except LedgerObjectMissing:
        pass
    return None


def ancestors(ledger: Ledger, entry: Entry) -> Iterator[tuple[Ancestor, ...]]:
    """The record and what it came from, generation by generation, up to the first stage."""
    lineage = Lineage(ledger)
    for places in lineage.chain(Place(entry.last.run_id, entry.stage, entry.ordinal)):
        try:
            yield tuple(_ancestor(ledger, lineage, place) for place in islice(places, MAX_SHOWN))
        except LedgerObjectMissing:
            return


def _ancestor(ledger: Ledger, lineage: Lineage, place: Place) -> Ancestor:
    plan = lineage.plan(place.run_id, place.stage)
    here = Ranges.of([place.ordinal])
    _, record_id = next(ids_of(ledger, plan, here))
    pointer = plan.source.pointer
    source: Mapping[str, Any] = {"bucket": pointer.bucket, "key": pointer.key}
    if (
        plan.source.format not in {SourceFormat.SUCCESSES, SourceFormat.SELECTION}
        and place.ordinal not in plan.rejected
    ):
        _, _, data = next(rows_of(ledger, plan, here), (0, record_id, None))
        if isinstance(data, Mapping) and {"bucket", "key"} <= data.keys():
            source = {name: data[name] for name in ("bucket", "key", "etag", "last_modified") if name in data}
    return Ancestor(run_id=place.run_id, stage=place.stage, record_id=record_id, source=source)
