"""What became of one record, stage by stage, as the ledger tells it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from winnow.batch.plan import Plan, find_id, find_plan
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges
from winnow.journal.evidence import read_segments
from winnow.journal.segment import Segment, read_output_ids
from winnow.proof.output_lines import origins_of_outputs
from winnow.proof.prove import read_run
from winnow.settlement.failure_records import FailureRecord, failure_records, find_failure
from winnow.settlement.settlement import FINAL, Settlement, before_anything, settlements

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from winnow.storage.ledger import Ledger

MAX_FOLLOWED = 1_000
"""Records that are followed into the next stage: a record may have become any number of them."""


class Outcome(StrEnum):
    """What a stage did with a record."""

    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    FAILED = "failed"
    OUTSTANDING = "outstanding"
    """The stage is not done with it, or was stopped before it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One record in one stage."""

    stage: str
    record_id: str
    ordinal: int
    outcome: Outcome
    attempt: int | None
    """In which it was done, or tried last; None if no settled attempt was given it."""
    failure: FailureRecord | None = None
    """Its failure record, if it is not done."""
    outputs: tuple[str, ...] = ()
    """Ids of the outputs it became, which are records of the next stage."""

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "record_id": self.record_id,
            "ordinal": self.ordinal,
            "outcome": self.outcome.value,
            "attempt": self.attempt,
            "failure": self.failure.to_json() if self.failure else None,
            "outputs": list(self.outputs),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A record's way through a run. Empty when no stage was given a record of this id."""

    run_id: str
    record_id: str
    steps: tuple[Step, ...]
    cut: bool
    """The record became more than `MAX_FOLLOWED` others somewhere, and not all of them were followed."""

    def to_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "record_id": self.record_id,
            "steps": [step.to_json() for step in self.steps],
            "cut": self.cut,
        }


def trace(ledger: Ledger, run_id: str, record_id: str, stages: Sequence[str] | None = None) -> Trace:
    """Follow a record from the first stage that was given it, through the records it became.

    Args:
        ledger: where the run wrote.
        run_id: the run.
        record_id: as a stage was given it.
        stages: to look in; by default those of the run's `run.json`.

    Raises:
        LedgerObjectMissing: the ledger has no such run.
    """
    steps: list[Step] = []
    following = [record_id]
    cut = False
    for stage in read_run(ledger, run_id).stages_to_run if stages is None else stages:
        plan = find_plan(ledger, StageKeys(run_id, stage))
        if plan is None:
            break
        here = [step for each in following if (step := _step(ledger, plan, each))]
        steps += here
        if steps:
            following = list(dict.fromkeys(output for step in here for output in step.outputs))
            cut = cut or len(following) > MAX_FOLLOWED
            following = following[:MAX_FOLLOWED]
    return Trace(run_id=run_id, record_id=record_id, steps=tuple(steps), cut=cut)


def _step(ledger: Ledger, plan: Plan, record_id: str) -> Step | None:
    ordinal = find_id(ledger, plan, record_id)
    if ordinal is None:
        return None
    last, done = before_anything(plan), None
    attempt = None
    for settlement in settlements(ledger, plan):
        if ordinal in settlement.given:
            attempt = settlement.attempt
        if done is None and (ordinal in settlement.succeeded or ordinal in settlement.skipped):
            done = settlement
        last = settlement
    if done is None:
        final = last.verdict in FINAL
        return Step(
            stage=plan.stage,
            record_id=record_id,
            ordinal=ordinal,
            outcome=Outcome.FAILED if final else Outcome.OUTSTANDING,
            attempt=attempt,
            failure=_failure(ledger, plan, last, ordinal) if attempt is not None else None,
        )
    skipped = ordinal in done.skipped
    return Step(
        stage=plan.stage,
        record_id=record_id,
        ordinal=ordinal,
        outcome=Outcome.SKIPPED if skipped else Outcome.SUCCEEDED,
        attempt=done.attempt,
        outputs=() if skipped else tuple(_outputs(ledger, plan, done, ordinal, record_id)),
    )


def _failure(ledger: Ledger, plan: Plan, last: Settlement, ordinal: int) -> FailureRecord | None:
    if last.verdict in FINAL:
        return find_failure(ledger, plan.keys.failures, ordinal)
    return next(failure_records(ledger, plan, last, Ranges.of([ordinal])), None)


def _outputs(ledger: Ledger, plan: Plan, done: Settlement, ordinal: int, record_id: str) -> Iterator[str]:
    """Ids of the output lines that came from a record, from the segment that settled it."""
    settled = {entry.key for entry in done.entries}
    for segment in read_segments(ledger, plan.keys.attempt(done.attempt)):
        if segment is None or segment.outputs is None or ordinal not in segment.succeeded:
            continue
        if segment.outputs.key in settled:
            yield from _outputs_in(ledger, segment, ordinal, record_id)
            return


def _outputs_in(ledger: Ledger, segment: Segment, ordinal: int, record_id: str) -> Iterator[str]:
    assert segment.outputs is not None
    if not segment.whole:
        side = read_output_ids(ledger, segment.outputs)
        yield from (found for found, of in zip(side.ids, side.of, strict=True) if of == ordinal)
        return
    # An output may join many records; only its own line names them all.
    for identifier, origins in origins_of_outputs(ledger, segment.outputs):
        if record_id in origins:
            yield identifier
