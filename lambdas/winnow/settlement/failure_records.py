"""Failure records: one JSON line each, complete, never capped, never sampled. Alert, register and replay all use them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from winnow.batch.plan import Plan, ids_of
from winnow.core.contract import Kind
from winnow.core.ranges import Ranges
from winnow.journal.reports import fingerprint, ordinal_of_line
from winnow.storage.jsonlines import loads
from winnow.storage.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptReports:
    """Where one attempt's reasons are, newest segment first, and whom each segment speaks of."""

    settled_at: str
    failed: Ranges
    segments: Sequence[tuple[str, Ranges]]
    """`(failures key, ordinals)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undescribed:
    """What to say of records nobody reported."""

    kind: Kind
    error_type: str
    message: str


def describe(
    ledger: Ledger,
    plan: Plan,
    ordinals: Ranges,
    attempts: Sequence[AttemptReports],
    otherwise: Undescribed,
    *,
    code_version: str = "",
) -> Iterator[dict[str, Any]]:
    """A failure record for each of `ordinals`, by the last reason given for it.

    Streams: memory is bounded by the intervals of `ordinals` and one segment's worth of ids.

    Args:
        attempts: newest first.
        otherwise: for those that no report explains.
    """
    left = ordinals
    for reports in attempts:
        for key, speaks_of in reports.segments:
            wanted = left & speaks_of
            if not wanted:
                continue
            told: set[int] = set()
            for line in ledger.read_lines(key):
                ordinal = ordinal_of_line(line)
                if ordinal in wanted and ordinal not in told:
                    told.add(ordinal)
                    yield _record(plan, loads(line.decode()), attempts)
            left = left - Ranges.of(told)
    lines = {run.ordinal: run for run in plan.runs(left - plan.rejected)}
    run = None
    for ordinal, record_id in ids_of(ledger, plan.keys, left):
        run = lines.get(ordinal, run)
        pointer = plan.source.pointer
        row = run.row + ordinal - run.ordinal + 1 if run and plan.source.format != "successes" else None
        yield _record(
            plan,
            {
                "ordinal": ordinal,
                "record_id": record_id,
                "kind": otherwise.kind.value,
                "error_type": otherwise.error_type,
                "message": otherwise.message,
                "traceback": "",
                "fingerprint": fingerprint(plan.stage, otherwise.error_type, otherwise.message),
                "source": {"bucket": pointer.bucket, "key": pointer.key, "line": row},
                "code_version": code_version,
                "at": attempts[0].settled_at,
            },
            attempts,
        )


def _record(plan: Plan, report: dict[str, Any], attempts: Sequence[AttemptReports]) -> dict[str, Any]:
    ordinal = report["ordinal"]
    tried = [reports for reports in attempts if ordinal in reports.failed]
    last_seen = report["at"]
    return {
        "ordinal": ordinal,
        "run_id": plan.run_id,
        "pipeline": plan.pipeline,
        "stage": plan.stage,
        "record_id": report["record_id"],
        "kind": report["kind"],
        "error_type": report["error_type"],
        "message": report["message"],
        "traceback": report["traceback"],
        "fingerprint": report["fingerprint"],
        "tries": max(1, len(tried)),
        "first_seen": min([last_seen, *(reports.settled_at for reports in tried)]),
        "last_seen": last_seen,
        "source": report["source"],
        "code_version": report["code_version"],
    }
