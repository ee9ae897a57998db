"""The settlement of an attempt: the document that decides, and how the settlements of a stage run are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from winnow.batch.plan import Plan
from winnow.core.contract import Kind, Verdict
from winnow.core.document import listed, member, nested, ranges, required, tally
from winnow.core.ranges import Ranges
from winnow.core.repetitions import Repetitions
from winnow.journal.successes import SuccessEntry
from winnow.storage.ledger import Ledger

FIRST_HORIZON = 10_000
"""Records a worker may take before its first segment is durable; a death before that is blamed on these."""

FINAL = frozenset({Verdict.COMPLETE, Verdict.EXHAUSTED, Verdict.TOTAL_FAILURE})


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultReason:
    """The reason for outstanding records that no worker gave a reason for."""

    kind: Kind
    error_type: str
    message: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DefaultReason:
        """Raises `ValueError` if a field is missing or wrong."""
        return cls(
            kind=member(value, "kind", Kind),
            error_type=required(value, "error_type", str),
            message=required(value, "message", str),
        )

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind.value, "error_type": self.error_type, "message": self.message}


NOT_JOURNALED = DefaultReason(
    kind=Kind.MISSING, error_type="NotJournaled", message="not journaled and not reported"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What an attempt left outstanding, and what happens next. Ranges are of the batch's ordinals."""

    attempt: int
    try_count: int
    verdict: Verdict
    cause: str
    """Why the stage failed as a whole, or why tries that were left could not be made; else empty."""
    settled_at: str
    heard_at: str
    """When the attempt was heard of last: its last segment, or the order for it. It may be settled long after that."""
    given: Ranges
    """The records that this attempt was given."""
    succeeded: Ranges
    """In the whole stage run so far; so are the next two."""
    skipped: Ranges
    permanent: Ranges
    crashed: Ranges
    """Outstanding records that are known to kill the worker, or to hang."""
    tried: Ranges
    """Outstanding records that this try has taken up already."""
    failed: Ranges
    """Outstanding records that failed in this attempt."""
    clashed: Ranges
    """Those of `permanent` that were journaled as succeeded in this attempt, with an output whose id another record's has."""
    next: Ranges
    """The records that the next attempt is given."""
    careful: bool
    """Whether the next attempt runs the user's code in child processes: until no suspect is left."""
    suspects: Ranges
    """Records that may have killed the worker; a careful attempt takes them last."""
    alerted: Ranges
    """Records that an alert has named, this settlement's alert included."""
    alert_now: Ranges
    entries: tuple[SuccessEntry, ...]
    """Output segments of this attempt."""
    reports: tuple[tuple[str, Ranges], ...]
    """This attempt's reports, newest first: the key of each object, and the ordinals that it is about."""
    default_reason: DefaultReason
    wait_seconds: int
    own_ids: bool = False
    """Some output so far, in the whole stage run, has an id of its own."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """Of the whole stage run so far: `warnings`, `deleted` records, `refused` evidence, `repeated`, `retried` and `clashed` records, `same_outputs`."""
    skip_reasons: Mapping[str, int] = field(default_factory=dict)
    warned: Mapping[str, int] = field(default_factory=dict)

    RANGES = (
        *("given", "succeeded", "skipped", "permanent", "crashed", "tried", "failed", "clashed", "next"),
        *("suspects", "alerted", "alert_now"),
    )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Settlement:
        """Raises `ValueError` if a field is missing or wrong."""
        spans = {name: _read_ranges(value, name) for name in cls.RANGES}
        return cls(
            attempt=required(value, "attempt", int),
            try_count=required(value, "try_count", int),
            verdict=member(value, "verdict", Verdict),
            cause=required(value, "cause", str),
            settled_at=required(value, "settled_at", str),
            heard_at=required(value, "heard_at", str),
            careful=required(value, "careful", bool),
            entries=listed(value, "entries", SuccessEntry.from_json),
            reports=tuple(
                (key, _read_part(spans["failed"], part)) for key, part in required(value, "reports", list)
            ),
            default_reason=nested(value, "otherwise", DefaultReason.from_json),
            wait_seconds=required(value, "wait_seconds", int),
            own_ids=required(value, "own_ids", bool),
            counters=tally(value, "counters"),
            skip_reasons=tally(value, "skip_reasons"),
            warned=tally(value, "warned"),
            **spans,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "attempt": self.attempt,
            "try_count": self.try_count,
            "verdict": self.verdict.value,
            "cause": self.cause,
            "settled_at": self.settled_at,
            "heard_at": self.heard_at,
            "careful": self.careful,
            "entries": [entry.to_json() for entry in self.entries],
            "reports": [[key, _part_of(self.failed, ordinals)] for key, ordinals in self.reports],
            "otherwise": self.default_reason.to_json(),
            "wait_seconds": self.wait_seconds,
            "own_ids": self.own_ids,
            "counters": dict(self.counters),
            "skip_reasons": dict(self.skip_reasons),
            "warned": dict(self.warned),
            **_each_once({name: getattr(self, name).to_json() for name in self.RANGES}),
        }

    def outstanding(self, plan: Plan) -> Ranges:
        return plan.everything - self.succeeded - self.skipped

    def repetitions(self, plan: Plan) -> Repetitions:
        """Rows and outputs of the whole stage run so far that repeat an id."""
        return Repetitions(
            duplicates=plan.duplicates,
            superseded=plan.superseded,
            conflicts=plan.conflicts + self.counters.get("clashed", 0),
            same_outputs=self.counters.get("same_outputs", 0),
        )


SPELT_OUT = 100
"""A field with more numbers than this is written once; other fields with the same ranges name it."""


def _each_once(ranges: Mapping[str, list[int]]) -> dict[str, Any]:
    """Write long ranges once, and then by the name of the field that has them: what failed is mostly what comes next."""
    written: dict[str, Any] = {}
    for name, flat in ranges.items():
        same = (other for other, before in written.items() if before == flat)
        written[name] = next(same, flat) if len(flat) > SPELT_OUT else flat
    return written


def _part_of(failed: Ranges, ordinals: Ranges) -> list[int] | dict[str, list[int]]:
    """The ordinals of a segment's reports, as bounds of `failed` if they are long: mostly they are all that failed in between."""
    flat = ordinals.to_json()
    if len(flat) > SPELT_OUT and failed.within(flat[0], flat[-1]) == ordinals:
        return {"failed_within": [flat[0], flat[-1]]}
    return flat


def _read_part(failed: Ranges, value: object) -> Ranges:
    return failed.within(*value["failed_within"]) if isinstance(value, dict) else Ranges.from_json(value)


def _read_ranges(value: Mapping[str, Any], name: str) -> Ranges:
    found = value.get(name)
    return ranges(value, found if isinstance(found, str) else name)


def before_anything(plan: Plan) -> Settlement:
    """The state before the first attempt."""
    nothing = Ranges.empty()
    return Settlement(
        attempt=-1,
        try_count=0,
        verdict=Verdict.RETRY,
        cause="",
        settled_at=plan.created_at,
        heard_at=plan.created_at,
        given=nothing,
        succeeded=nothing,
        skipped=nothing,
        permanent=nothing,
        crashed=nothing,
        tried=nothing,
        failed=nothing,
        clashed=nothing,
        next=plan.everything,
        careful=False,
        suspects=nothing,
        alerted=nothing,
        alert_now=nothing,
        entries=(),
        reports=(),
        default_reason=NOT_JOURNALED,
        wait_seconds=0,
    )


def read_settlement(ledger: Ledger, plan: Plan, attempt: int) -> Settlement | None:
    """The settlement of an attempt, None while there is none; attempt -1 is the state before the first."""
    if attempt < 0:
        return before_anything(plan)
    return ledger.find(plan.keys.attempt(attempt).settlement, Settlement.from_json)


def settlements(ledger: Ledger, plan: Plan, *, after: Settlement | None = None) -> Iterator[Settlement]:
    """The settlements of a stage run, oldest first, up to the first attempt that is not settled.

    Costs one read per settlement, and one that finds nothing.

    Args:
        ledger: where the stage run is settled.
        plan: of the stage run.
        after: begin with the attempt after this one; None for the first attempt.
    """
    attempt = after.attempt + 1 if after else 0
    while (found := read_settlement(ledger, plan, attempt)) is not None:
        yield found
        attempt += 1


def settlements_up_to(ledger: Ledger, plan: Plan, last: Settlement) -> Iterator[Settlement]:
    """The settlements of a stage run, oldest first, ending with one that is at hand.

    Costs one read per settlement before `last`.

    Raises:
        LedgerObjectMissing: one of them is gone.
    """
    for attempt in range(last.attempt):
        yield ledger.read(plan.keys.attempt(attempt).settlement, Settlement.from_json)
    yield last
