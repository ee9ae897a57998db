"""The proof of law 4, from the ledger alone: no stage loses a record, and none is lost between two stages.

At every stage distinct records in = succeeded + skipped + failed, and what a stage is given is what the one before succeeded in.
Nothing is taken from what settlements and results claim: counts are derived again from the batch, the journal's segments and
the lists of outputs and failures, and then compared with the claims. Everything streams; memory grows with the number of
intervals and segments, not with the number of records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from winnow.batch.plan import read_plan
from winnow.core import keys
from winnow.core.contract import SUCCEEDED
from winnow.core.errors import LedgerObjectMissing
from winnow.core.keys import StageKeys
from winnow.core.run_document import RunDocument
from winnow.proof.result import Proof, Reached, StageProof
from winnow.proof.stage_audit import Given, StageAudit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from winnow.storage.ledger import Ledger

__all__ = ["Proof", "Reached", "StageProof", "prove", "prove_alone", "read_run"]


def prove(ledger: Ledger, run_id: str, *, status: str | None = None, deep: bool = False) -> Proof:
    """Prove that a run's ledger adds up, or list where it does not.

    Args:
        ledger: where the run wrote.
        run_id: the run.
        status: of the pipeline's execution, where known: one that SUCCEEDED must have finished every stage.
        deep: also read all outputs, and compare each line with what the journal says of it.

    Raises:
        LedgerObjectMissing: the ledger has no such run.
    """
    run = read_run(ledger, run_id)
    proofs: list[StageProof] = []
    given = Given(pointer=run.records)
    for stage in run.stages_to_run:
        audit = StageAudit(ledger, StageKeys(run_id, stage), deep=deep)
        proofs.append(audit.prove(given))
        given = audit.leaves
    problems = _unfinished(proofs) if status == SUCCEEDED and not run.stepped_aside else ()
    return Proof(run_id=run_id, pipeline=run.pipeline, stages=tuple(proofs), problems=tuple(problems))


def prove_alone(
    ledger: Ledger, run_id: str, stages: Sequence[str], *, status: str | None = None, deep: bool = False
) -> Proof:
    """Prove stages that were started by themselves, each against the source that its plan names.

    Args:
        ledger: where they wrote.
        run_id: of the stage runs.
        stages: that were planned under it; at least one.
        status: of their executions, where known: one that SUCCEEDED must have finished its stage.
        deep: as in `prove`.

    Raises:
        LedgerObjectMissing: one of them was never planned.
    """
    plans = [read_plan(ledger, StageKeys(run_id, stage)) for stage in stages]
    proofs = [
        StageAudit(ledger, plan.keys, deep=deep).prove(Given(pointer=plan.source.pointer)) for plan in plans
    ]
    problems = _unfinished(proofs) if status == SUCCEEDED else ()
    return Proof(run_id=run_id, pipeline=plans[0].pipeline, stages=tuple(proofs), problems=tuple(problems))


def _unfinished(proofs: Iterable[StageProof]) -> Iterator[str]:
    return (
        f"the run succeeded, but stage {proof.stage} is {proof.reached}"
        for proof in proofs
        if proof.reached is not Reached.DONE
    )


def read_run(ledger: Ledger, run_id: str) -> RunDocument:
    """A run's `run.json`. Raises `LedgerObjectMissing` with a line for people, or `DamagedDocument`."""
    run = ledger.find(keys.run(run_id), RunDocument.from_json)
    if run is None:
        raise LedgerObjectMissing(
            f"run {run_id} is not in s3://{ledger.bucket}: check the id, and which environment it ran in"
        )
    return run
