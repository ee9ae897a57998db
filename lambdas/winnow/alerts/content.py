"""What there is to alert, without words: counts, failures grouped by cause, the first few records.

Settle writes it to the ledger; `winnow.alerts.wording` puts it into words, `winnow.alerts.announcer` delivers it.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from winnow.core.contract import Kind, Pointer
from winnow.core.repetitions import Repetitions

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CAUSES = 20
MAX_EXAMPLES = 5
MAX_RULES = 10
"""Rules of the quality gate that an alert names; `gate.json` has all."""
MAX_FINGERPRINTS = 1_000
"""Different causes that a tally tells apart; at about 1 KB each, a megabyte however many records failed."""
OTHER_CAUSES = "other causes"
MAX_REASON_CHARS = 1_000
"""Messages may hold a whole traceback (Step Functions' causes up to 32 KB); the beginning says what it was."""


class Severity(StrEnum):
    """How loud an alert is; travels as a message attribute, so that subscriptions can filter."""

    ERROR = "error"
    """Records were lost and the run goes on; or an event started no run."""
    CRITICAL = "critical"
    """The run has stopped, or the ledger does not add up."""


class Event(StrEnum):
    """What an alert is about: verdicts of a stage, statuses of a run's execution, the closer's finding, a refused event."""

    RETRY = "RETRY"
    EXHAUSTED = "EXHAUSTED"
    TOTAL_FAILURE = "TOTAL_FAILURE"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    ABORTED = "ABORTED"
    NOT_CONSERVED = "NOT_CONSERVED"
    REFUSED = "REFUSED"
    BLOCKED = "BLOCKED"
    """The quality gate did not let the run publish."""
    TEST = "TEST"
    """Nothing happened; an operator wants to see that alerts arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseGroup:
    """Failures with one fingerprint."""

    fingerprint: str
    kind: str
    error_type: str
    message: str
    """Of the first of them."""
    count: int
    example_id: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            fingerprint=value["fingerprint"],
            kind=value["kind"],
            error_type=value["error_type"],
            message=value["message"],
            count=value["count"],
            example_id=value["example_id"],
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "kind": self.kind,
            "error_type": self.error_type,
            "message": self.message,
            "count": self.count,
            "example_id": self.example_id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One failed record and why."""

    record_id: str
    kind: str
    error_type: str
    message: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            record_id=value["record_id"],
            kind=value["kind"],
            error_type=value["error_type"],
            message=value["message"],
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "record_id": self.record_id,
            "kind": self.kind,
            "error_type": self.error_type,
            "message": self.message,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenRule:
    """A rule of the quality gate that a version violates, or that cannot be evaluated."""

    name: str
    reason: str
    """Why the rule is there."""
    expected: str
    found: str
    violations: int | None
    """Rows that violate it; None for a rule that is not about rows."""
    first_ids: tuple[str, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            name=value["name"],
            reason=value["reason"],
            expected=value["expected"],
            found=value["found"],
            violations=value["violations"],
            first_ids=tuple(value["first_ids"]),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "reason": self.reason,
            "expected": self.expected,
            "found": self.found,
            "violations": self.violations,
            "first_ids": list(self.first_ids),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedVersion:
    """A version that the quality gate blocked."""

    publication: str
    version: int
    published: int | None
    """The version that stays published; None where there is none."""
    rules: tuple[BrokenRule, ...]
    """Those that block, at most `MAX_RULES`."""
    more_rules: int = 0

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            publication=value["publication"],
            version=value["version"],
            published=value["published"],
            rules=tuple(BrokenRule.from_json(rule) for rule in value["rules"]),
            more_rules=value["more_rules"],
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "publication": self.publication,
            "version": self.version,
            "published": self.published,
            "rules": [rule.to_json() for rule in self.rules],
            "more_rules": self.more_rules,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertCounts:
    """Distinct records of the stage so far."""

    records_in: int
    succeeded: int
    skipped: int
    failed: int
    new: int
    """Failed records that no alert named before, of this stage run or of an earlier one."""
    known: int = 0
    """Failed records that this stage run has not alerted, because people know them from earlier runs."""
    repetitions: Repetitions = field(default_factory=Repetitions)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            records_in=value["in"],
            succeeded=value["succeeded"],
            skipped=value["skipped"],
            failed=value["failed"],
            new=value["new"],
            known=value.get("known", 0),
            repetitions=Repetitions.from_json(value),
        )

    def to_json(self) -> dict[str, int]:
        return {
            "in": self.records_in,
            "succeeded": self.succeeded,
            "skipped": self.skipped,
            "failed": self.failed,
            "new": self.new,
            "known": self.known,
            **self.repetitions.to_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertContent:
    """What is to be alerted, without wording: the ledger's `alert.json`."""

    severity: Severity
    verdict: str
    """An `Event`; a `Verdict` where a stage speaks."""
    pipeline: str
    run_id: str
    """Empty where no run was started."""
    stage: str | None = None
    """None when the run as a whole is meant."""
    attempt: int = 0
    tries: int = 0
    cause: str | None = None
    """What the stage or the execution failed with, or why the event was refused, in words."""
    counts: AlertCounts | None = None
    causes: tuple[CauseGroup, ...] = ()
    """Most frequent first, at most `MAX_CAUSES`."""
    more_causes: int = 0
    examples: tuple[Example, ...] = ()
    failures_file: Pointer | None = None
    """All failures; where the gate blocked, all ids that violate its rules."""
    blocked: BlockedVersion | None = None
    """What the quality gate did not let through."""

    @property
    def needs_alert(self) -> bool:
        """Whether an alert is needed. A stage in which only known failures failed again needs none.

        A stage that stopped needs one all the same, unless it was given nothing but records that are known to be wrong: an
        outage is another each time, a file that was edited and is as malformed as before is not.
        """
        if self.counts is None or self.counts.new > 0:
            return True
        return self.verdict == Event.TOTAL_FAILURE and not self.is_permanent_throughout

    @property
    def is_permanent_throughout(self) -> bool:
        """Whether each of its failures is the record's own; not where there are more causes than it lists."""
        return (
            bool(self.causes) and not self.more_causes and all(c.kind == Kind.PERMANENT for c in self.causes)
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError if it is not an alert."""
        counts, file, blocked = value.get("counts"), value.get("failures_file"), value.get("blocked")
        return cls(
            severity=Severity(value["severity"]),
            verdict=Event(value["verdict"]).value,
            pipeline=value["pipeline"],
            run_id=value["run_id"],
            stage=value.get("stage"),
            attempt=value.get("attempt", 0),
            tries=value.get("tries", 0),
            cause=value.get("cause"),
            counts=None if counts is None else AlertCounts.from_json(counts),
            causes=tuple(CauseGroup.from_json(cause) for cause in value.get("causes", ())),
            more_causes=value.get("more_causes", 0),
            examples=tuple(Example.from_json(example) for example in value.get("examples", ())),
            failures_file=None if file is None else Pointer.from_event(file, "failures_file"),
            blocked=None if blocked is None else BlockedVersion.from_json(blocked),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "severity": self.severity.value,
            "verdict": self.verdict,
            "pipeline": self.pipeline,
            "stage": self.stage,
            "run_id": self.run_id,
            "attempt": self.attempt,
            "tries": self.tries,
            "cause": self.cause,
            "counts": None if self.counts is None else self.counts.to_json(),
            "causes": [cause.to_json() for cause in self.causes],
            "more_causes": self.more_causes,
            "examples": [example.to_json() for example in self.examples],
            "failures_file": None if self.failures_file is None else self.failures_file.to_payload(),
            "blocked": None if self.blocked is None else self.blocked.to_json(),
        }


class CauseTally:
    """Groups failures by cause as they stream past; memory does not grow with their number.

    Causes beyond the first `MAX_FINGERPRINTS` are counted together, as `OTHER_CAUSES`.
    """

    def __init__(self) -> None:
        self._causes: dict[str, tuple[Example, int]] = {}
        self._examples: list[Example] = []
        self.count = 0
        """Failures seen."""

    def add(
        self, *, record_id: str, kind: Kind | str, error_type: str, message: str, fingerprint: str
    ) -> None:
        """Count one failure record."""
        self.count += 1
        group = fingerprint
        if group not in self._causes and len(self._causes) >= MAX_FINGERPRINTS:
            group = OTHER_CAUSES
        if group in self._causes and len(self._examples) >= MAX_EXAMPLES:
            first, seen = self._causes[group]
            self._causes[group] = (first, seen + 1)
            return
        example = Example(
            record_id=record_id,
            kind=str(kind),
            error_type=clean(error_type, 100),
            message=clean(message, MAX_REASON_CHARS),
        )
        if len(self._examples) < MAX_EXAMPLES:
            self._examples.append(example)
        first, seen = self._causes.get(group, (example, 0))
        self._causes[group] = (first, seen + 1)

    @property
    def causes(self) -> tuple[CauseGroup, ...]:
        """The most frequent causes; of equally frequent ones the first seen."""
        ranked = sorted(self._causes.items(), key=lambda cause: -cause[1][1])
        return tuple(
            CauseGroup(
                fingerprint=fingerprint,
                kind=first.kind,
                error_type=OTHER_CAUSES if fingerprint == OTHER_CAUSES else first.error_type,
                message=first.message,
                count=seen,
                example_id=first.record_id,
            )
            for fingerprint, (first, seen) in ranked[:MAX_CAUSES]
        )

    @property
    def more_causes(self) -> int:
        """Causes that were told apart but are not among `causes`."""
        return max(0, len(self._causes) - MAX_CAUSES)

    @property
    def examples(self) -> tuple[Example, ...]:
        """The first failures seen."""
        return tuple(self._examples)


def split_new_from_known(
    content: AlertContent, *, new: int, known: int, new_causes: CauseTally
) -> AlertContent:
    """An alert that names only the new failures. Where a whole stage failed, all of its causes matter, so they stay.

    Args:
        content: as Settle wrote it, which takes every failure for new; or as this function returned it before.
        new: failures that no alert has named.
        known: the others that the alert is about.
        new_causes: the new ones, by cause.
    """
    counts = content.counts and replace(content.counts, new=new, known=known)
    if content.verdict == Event.TOTAL_FAILURE:
        return replace(content, counts=counts)
    return replace(
        content,
        counts=counts,
        causes=new_causes.causes,
        more_causes=new_causes.more_causes,
        examples=new_causes.examples,
    )


def clean(text: str, limit: int) -> str:
    """Text from outside on one line: no control or direction characters, at most `limit` characters."""
    shown = " ".join("".join(" " if _unseen(char) else char for char in text[: limit * 2]).split())
    return shown if len(shown) <= limit and len(text) <= limit * 2 else shown[: limit - 1] + "…"


def _unseen(char: str) -> bool:
    return unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
