"""The claim on an attempt: one execution of the stage machine owns it, and no other may run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from winnow.core import keys as ledger_keys
from winnow.core.contract import StageInput, now
from winnow.core.document import required
from winnow.core.errors import DuplicateAttempt, LedgerConflict, StageInputError
from winnow.core.keys import StageKeys
from winnow.core.run_document import RunDocument
from winnow.storage.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptClaim:
    """Which execution owns an attempt: the ledger's `claim.json`."""

    execution: str
    """Its ARN."""
    claimed_at: str
    """ISO 8601, UTC."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `ValueError` if a field is missing or wrong."""
        return cls(execution=required(value, "execution", str), claimed_at=required(value, "claimed_at", str))

    def to_json(self) -> dict[str, str]:
        return {"execution": self.execution, "claimed_at": self.claimed_at}


def check_run_is_its_own(ledger: Ledger, stage_input: StageInput) -> None:
    """A run that a pipeline planned has its stages started by the pipeline's execution, and by nobody else.

    A stage that is started by itself under the id of such a run would take the place of the run's own.

    Raises:
        StageInputError: the run id belongs to another execution than the one that started the stage.
    """
    run = ledger.find(ledger_keys.run(stage_input.run_id), RunDocument.from_json)
    if run and run.execution != stage_input.started_by:
        raise StageInputError(
            "run_id",
            stage_input.run_id,
            f"belongs to {run.execution}, which starts its stages itself; "
            "leave it out to start this stage by itself, or replay what failed",
        )


def claim_attempt(ledger: Ledger, keys: StageKeys, attempt: int, execution: str) -> None:
    """Make an attempt an execution's own. Idempotent for the same execution.

    Raises:
        DuplicateAttempt: another execution owns the attempt.
    """
    key = keys.attempt(attempt).claim
    claim = AttemptClaim(execution=execution, claimed_at=now())
    try:
        ledger.write_json(key, claim.to_json(), if_absent=True)
    except LedgerConflict:
        owner = ledger.read(key, AttemptClaim.from_json).execution
        if owner != execution:
            raise DuplicateAttempt(
                f"attempt {attempt} of stage {keys.stage} of run {keys.run_id} belongs to {owner}; "
                "nothing was run twice. Start a new run, or replay what failed"
            ) from None
