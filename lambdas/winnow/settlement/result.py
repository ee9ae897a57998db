"""A stage's result: its output, and the counts that follow from its last settlement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from winnow.core.contract import Pointer, Verdict

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
        failures = value["failures"]
        return cls(
            run_id=value["run_id"],
            stage=value["stage"],
            tries=value["tries"],
            succeeded=value["successes"]["count"],
            successes=Pointer.from_event(value["successes"]["batch_file_location"], "successes"),
            skipped=value["skipped"]["count"],
            failed=failures["count"] if failures else 0,
            failures=Pointer.from_event(failures["error_file_location"], "failures") if failures else None,
            lost_in_run=value["lost"]["run"],
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
    duplicates: int
    """Rows of the source that repeat an id."""
    warnings: int
    refused: int
    """Claims in journals that were not believed."""
    repeated: int
    """Records that were journaled more than once."""
    retried: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            records_in=value["in"],
            succeeded=value["succeeded"],
            skipped=value["skipped"],
            failed=value["failed"],
            duplicates=value["duplicates"],
            warnings=value["warnings"],
            refused=value["refused"],
            repeated=value["repeated"],
            retried=value["retried"],
        )

    def to_json(self) -> dict[str, int]:
        return {
            "in": self.records_in,
            "succeeded": self.succeeded,
            "skipped": self.skipped,
            "failed": self.failed,
            "duplicates": self.duplicates,
            "warnings": self.warnings,
            "refused": self.refused,
            "repeated": self.repeated,
            "retried": self.retried,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """What a finished stage run leaves behind: the ledger's `result.json`. Without it the stage is not done."""

    verdict: Verdict
    cause: str
    """Why the stage failed as a whole; empty if it did not."""
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
            verdict=Verdict(value["verdict"]),
            cause=value["cause"] or "",
            output=StageOutput.from_json(value["output"]),
            counts=StageCounts.from_json(value["counts"]),
            failed_by_kind=value["failed_by_kind"],
            skip_reasons=value["skip_reasons"],
            warned=value["warned"],
            attempts=value["attempts"],
            settled_at=value["settled_at"],
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
    return StageResult.from_json(ledger.read_json(keys.result))


def find_result(ledger: Ledger, keys: StageKeys) -> StageResult | None:
    """The result of a stage run; None while the stage is not done."""
    found = ledger.find_json(keys.result)
    return None if found is None else StageResult.from_json(found)
