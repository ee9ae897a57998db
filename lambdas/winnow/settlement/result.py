"""A stage's result: its output, and the counts that follow from its last settlement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from winnow.core.contract import Pointer, Verdict
from winnow.core.document import member, nested, nullable, required, tally
from winnow.core.repetitions import Repetitions

if TYPE_CHECKING:
    from winnow.core.keys import StageKeys
    from winnow.storage.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOutput:
    """What the stage's execution ends with, and the next stage begins with."""

    run_id: str
    stage: str
    tries: int
    succeeded: int
    successes: Pointer
    """The list of successes, which the next stage reads."""
    skipped: int
    failed: int
    failures: Pointer | None
    """The list of failure records; None if nothing failed."""
    lost_in_run: int
    """Failed in this run so far, this stage included."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `ValueError` or `StageInputError` if a field is missing or wrong."""
        successes, failures = required(value, "successes", dict), nullable(value, "failures", dict)
        return cls(
            run_id=required(value, "run_id", str),
            stage=required(value, "stage", str),
            tries=required(value, "tries", int),
            succeeded=required(successes, "count", int),
            successes=Pointer.from_event(successes.get("batch_file_location"), "successes"),
            skipped=required(required(value, "skipped", dict), "count", int),
            failed=required(failures, "count", int) if failures else 0,
            failures=Pointer.from_event(failures.get("error_file_location"), "failures")
            if failures
            else None,
            lost_in_run=required(required(value, "lost", dict), "run", int),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "stage": self.stage,
            "tries": self.tries,
            "successes": {
                "count": self.succeeded,
                "batch_file_location": self.successes.to_payload(),
            },
            "skipped": {"count": self.skipped},
            "failures": (
                {"count": self.failed, "error_file_location": self.failures.to_payload()}
                if self.failures
                else None
            ),
            "lost": {"stage": self.failed, "run": self.lost_in_run},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCounts:
    """Distinct records of a stage run by outcome, and what else was counted."""

    records_in: int
    succeeded: int
    skipped: int
    failed: int
    repetitions: Repetitions
    warnings: int
    refused: int
    """Claims in journals that were not believed."""
    repeated: int
    """Records that were journaled more than once."""
    retried: int
    deleted: int = 0
    """Of those that succeeded: their outputs hold a deletion."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            records_in=required(value, "in", int),
            succeeded=required(value, "succeeded", int),
            skipped=required(value, "skipped", int),
            failed=required(value, "failed", int),
            repetitions=Repetitions.from_json(value),
            warnings=required(value, "warnings", int),
            refused=required(value, "refused", int),
            repeated=required(value, "repeated", int),
            retried=required(value, "retried", int),
            deleted=nullable(value, "deleted", int) or 0,
        )

    def to_json(self) -> dict[str, int]:
        return {
            "in": self.records_in,
            "succeeded": self.succeeded,
            "skipped": self.skipped,
            "failed": self.failed,
            **self.repetitions.to_json(),
            "warnings": self.warnings,
            "refused": self.refused,
            "repeated": self.repeated,
            "retried": self.retried,
            **({"deleted": self.deleted} if self.deleted else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """What a finished stage run leaves behind: the ledger's `result.json`. Without it the stage is not done."""

    verdict: Verdict
    cause: str
    """Why the stage failed as a whole, or why tries that were left could not be made; else empty."""
    output: StageOutput
    counts: StageCounts
    failed_by_kind: Mapping[str, int]
    skip_reasons: Mapping[str, int]
    warned: Mapping[str, int]
    attempts: int
    settled_at: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            verdict=member(value, "verdict", Verdict),
            cause=nullable(value, "cause", str) or "",
            output=nested(value, "output", StageOutput.from_json),
            counts=nested(value, "counts", StageCounts.from_json),
            failed_by_kind=tally(value, "failed_by_kind"),
            skip_reasons=tally(value, "skip_reasons"),
            warned=tally(value, "warned"),
            attempts=required(value, "attempts", int),
            settled_at=required(value, "settled_at", str),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.value,
            "cause": self.cause or None,
            "output": self.output.to_json(),
            "counts": self.counts.to_json(),
            "failed_by_kind": dict(self.failed_by_kind),
            "skip_reasons": dict(self.skip_reasons),
            "warned": dict(self.warned),
            "attempts": self.attempts,
            "settled_at": self.settled_at,
        }


def read_result(ledger: Ledger, keys: StageKeys) -> StageResult:
    """The result of a stage run. Raises `LedgerObjectMissing` if the stage is not done."""
    return ledger.read(keys.result, StageResult.from_json)


def find_result(ledger: Ledger, keys: StageKeys) -> StageResult | None:
    """The result of a stage run; None while the stage is not done."""
    return ledger.find(keys.result, StageResult.from_json)
