"""What the ledger proves about a run: numbers that add up, or the places where they do not."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from winnow.core.repetitions import Repetitions


class Reached(StrEnum):
    """How far a stage got."""

    DONE = "done"
    UNFINISHED = "unfinished"
    NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProof:
    """What the ledger proves about one stage, in distinct records."""

    stage: str
    reached: Reached
    verdict: str | None = None
    records_in: int = 0
    succeeded: int = 0
    skipped: int = 0
    failed: int = 0
    """Outstanding at the end; 0 while the stage is unfinished."""
    outstanding: int = 0
    """Not settled finally; 0 when the stage is done."""
    repetitions: Repetitions = field(default_factory=Repetitions)
    outputs: int = 0
    """Lines handed on, which is what the next stage is given."""
    tries: int = 0
    attempts: int = 0
    late: int = 0
    """Records that a zombie worker journaled after its attempt was settled: not counted, and done again or failed."""
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "reached": self.reached.value,
            "verdict": self.verdict,
            "in": self.records_in,
            "succeeded": self.succeeded,
            "skipped": self.skipped,
            "failed": self.failed,
            "outstanding": self.outstanding,
            **self.repetitions.to_json(),
            "outputs": self.outputs,
            "tries": self.tries,
            "attempts": self.attempts,
            "late": self.late,
            "problems": list(self.problems),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the ledger proves about a run."""

    run_id: str
    pipeline: str
    stages: tuple[StageProof, ...]
    problems: tuple[str, ...] = ()
    """Of the run as a whole; each stage has its own."""

    @property
    def holds(self) -> bool:
        """Nothing contradicts law 4. A stage that is still running, or was stopped, contradicts nothing."""
        return not self.all_problems

    @property
    def all_problems(self) -> tuple[str, ...]:
        """Problems of the stages and of the run, each with the stage's name."""
        return (
            *(f"{stage.stage}: {problem}" for stage in self.stages for problem in stage.problems),
            *self.problems,
        )

    @property
    def finished(self) -> bool:
        """Every stage was reached and is done."""
        return all(stage.reached is Reached.DONE for stage in self.stages)

    @property
    def lost(self) -> int:
        """Records that failed, over all stages."""
        return sum(stage.failed for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "pipeline": self.pipeline,
            "holds": self.holds,
            "finished": self.finished,
            "lost": self.lost,
            "stages": [stage.to_json() for stage in self.stages],
            "problems": list(self.problems),
        }
