"""Failure records: one JSON line each, complete, never capped, never sampled. Alert, register and replay all use them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from winnow.batch.plan import Plan, ids_of
from winnow.core.contract import Kind, SourceFormat
from winnow.core.document import member, required
from winnow.core.ranges import Ranges
from winnow.journal.reports import fingerprint, ordinal_of_line
from winnow.settlement.settlement import Settlement, settlements_up_to
from winnow.storage.jsonlines import dumps, loads
from winnow.storage.ledger import Ledger

if TYPE_CHECKING:
    from winnow.alerts.content import CauseTally


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRecord:
    """A record that failed in a stage run, by the last reason given for it."""

    ordinal: int
    run_id: str
    pipeline: str
    stage: str
    record_id: str
    kind: Kind
    error_type: str
    message: str
    traceback: str
    fingerprint: str
    """The same for failures that look alike: of the stage, the error type and the message's shape."""
    tries: int
    """Attempts in which the record failed; at least 1."""
    first_seen: str
    """ISO 8601, UTC; so is `last_seen`."""
    last_seen: str
    source: Mapping[str, Any]
    """Where the record came from: `bucket`, `key`, and `line`, which is 1-based or None; `modified`, when that list was written, by S3's clock."""
    code_version: str
    """Of the worker that reported it; empty if no worker did."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `ValueError` if a field is missing or wrong."""
        return cls(
            ordinal=required(value, "ordinal", int),
            run_id=required(value, "run_id", str),
            pipeline=required(value, "pipeline", str),
            stage=required(value, "stage", str),
            record_id=required(value, "record_id", str),
            kind=member(value, "kind", Kind),
            error_type=required(value, "error_type", str),
            message=required(value, "message", str),
            traceback=required(value, "traceback", str),
            fingerprint=required(value, "fingerprint", str),
            tries=required(value, "tries", int),
            first_seen=required(value, "first_seen", str),
            last_seen=required(value, "last_seen", str),
            source=required(value, "source", dict),
            code_version=required(value, "code_version", str),
        )

    def to_json(self) -> dict[str, Any]:
        # The ordinal first: `ordinal_of_line` finds it there without parsing the line.
        return {
            "ordinal": self.ordinal,
            "run_id": self.run_id,
            "pipeline": self.pipeline,
            "stage": self.stage,
            "record_id": self.record_id,
            "kind": self.kind.value,
            "error_type": self.error_type,
            "message": self.message,
            "traceback": self.traceback,
            "fingerprint": self.fingerprint,
            "tries": self.tries,
            "first_seen": self.first_seen,
            "last_seen": self.last_seen,
            "source": self.source,
            "code_version": self.code_version,
        }

    def to_line(self) -> str:
        return dumps(self.to_json())

    def count_in(self, tally: CauseTally) -> None:
        """Count the failure by its cause."""
        tally.add(
            record_id=self.record_id,
            kind=self.kind,
            error_type=self.error_type,
            message=self.message,
            fingerprint=self.fingerprint,
        )


def read_failures(ledger: Ledger, key: str) -> Iterator[FailureRecord]:
    """The failure records of a list in the ledger, one in memory at a time.

    Raises:
        LedgerObjectMissing: there is no list.
        DamagedDocument: a line cannot be read.
    """
    with ledger.naming(key):
        for line in ledger.read_lines(key):
            yield FailureRecord.from_json(loads(line.decode()))


def read_failed_ids(ledger: Ledger, key: str) -> Iterator[tuple[int, str]]:
    """The ordinals and ids of a list of failure records, without the rest. Raises as `read_failures`."""
    with ledger.naming(key):
        for line in ledger.read_lines(key):
            yield ordinal_of_line(line), required(loads(line.decode()), "record_id", str)


def find_failure(ledger: Ledger, key: str, ordinal: int) -> FailureRecord | None:
    """One record's failure record in a list in the ledger; None if the list does not have it."""
    with ledger.naming(key):
        for line in ledger.read_lines(key):
            if ordinal_of_line(line) == ordinal:
                return FailureRecord.from_json(loads(line.decode()))
    return None


def failure_records(
    ledger: Ledger, plan: Plan, settlement: Settlement, ordinals: Ranges
) -> Iterator[FailureRecord]:
    """A failure record for each of some outstanding records, as of a settlement.

    Streams: memory is bounded by the intervals of `ordinals` and by the ids of one segment.
    """
    attempts = [_Reported.by(each) for each in settlements_up_to(ledger, plan, settlement)][::-1]
    left = ordinals
    for attempt in attempts:
        for key, reported in attempt.reports:
            wanted = left & reported
            if wanted:
                described: list[int] = []
                for report in _read_reports(ledger, key, wanted):
                    described.append(report["ordinal"])
                    yield _record(plan, report, attempts)
                left = left - Ranges.of(described)
    for report in _unreported(ledger, plan, settlement, left):
        yield _record(plan, report, attempts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reported:
    """What one attempt says of failures."""

    settled_at: str
    failed: Ranges
    reports: tuple[tuple[str, Ranges], ...]
    """Newest segment first: the key of its reports, and the ordinals that they are about."""

    @classmethod
    def by(cls, settlement: Settlement) -> _Reported:
        """Only this much of a settlement: all attempts are in memory at once."""
        return cls(settled_at=settlement.settled_at, failed=settlement.failed, reports=settlement.reports)


def _read_reports(ledger: Ledger, key: str, wanted: Ranges) -> Iterator[dict[str, Any]]:
    """The first report of each of some records in one segment's reports."""
    seen: set[int] = set()
    for line in ledger.read_lines(key):
        ordinal = ordinal_of_line(line)
        if ordinal in wanted and ordinal not in seen:
            seen.add(ordinal)
            yield loads(line.decode())


def _unreported(
    ledger: Ledger, plan: Plan, settlement: Settlement, ordinals: Ranges
) -> Iterator[dict[str, Any]]:
    """Reports of records that no worker reported."""
    reason = settlement.default_reason
    pointer = plan.source.pointer
    spans = {span.ordinal: span for span in plan.runs(ordinals - plan.rejected)}
    span = None
    for ordinal, record_id in ids_of(ledger, plan, ordinals):
        span = spans.get(ordinal, span)
        has_line = span is not None and plan.source.format is not SourceFormat.SUCCESSES
        yield {
            "ordinal": ordinal,
            "record_id": record_id,
            "kind": reason.kind.value,
            "error_type": reason.error_type,
            "message": reason.message,
            "traceback": "",
            "fingerprint": fingerprint(plan.stage, reason.error_type, reason.message),
            "source": {
                "bucket": pointer.bucket,
                "key": pointer.key,
                "line": span.row + ordinal - span.ordinal + 1 if span and has_line else None,
            },
            "code_version": "",
            # Not when it was settled: another run may have done the record by then.
            "at": settlement.heard_at,
        }


def _version_read(plan: Plan, source: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where a record came from, with the version of the list, where it came from a list that has versions."""
    ref = plan.source
    if not ref.modified or (source["bucket"], source["key"]) != (ref.pointer.bucket, ref.pointer.key):
        return source
    return {**source, "modified": ref.modified}


def _record(plan: Plan, report: Mapping[str, Any], attempts: Iterable[_Reported]) -> FailureRecord:
    ordinal, last_seen = report["ordinal"], report["at"]
    failed_at = [attempt.settled_at for attempt in attempts if ordinal in attempt.failed]
    return FailureRecord(
        ordinal=ordinal,
        run_id=plan.run_id,
        pipeline=plan.pipeline,
        stage=plan.stage,
        record_id=report["record_id"],
        kind=Kind(report["kind"]),
        error_type=report["error_type"],
        message=report["message"],
        traceback=report["traceback"],
        fingerprint=report["fingerprint"],
        tries=max(1, len(failed_at)),
        first_seen=min([last_seen, *failed_at]),
        last_seen=last_seen,
        source=_version_read(plan, report["source"]),
        code_version=report["code_version"],
    )
