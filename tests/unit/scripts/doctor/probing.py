"""A deployed probe as the doctor's probes see it: what each execution comes to, said by the test."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from scripts.deployed.pipelines import DeployedPipeline
from scripts.doctor.probe import ProbeSite
from tests.unit.scripts.doctor.accounts import ACCOUNT, OUTPUTS
from winnow.core.contract import Kind, Pointer, Verdict
from winnow.core.keys import StageKeys
from winnow.core.probe import STAGE
from winnow.core.repetitions import Repetitions
from winnow.settlement.failure_records import FailureRecord
from winnow.settlement.result import StageCounts, StageOutput, StageResult
from winnow.storage.ledger import Ledger
from winnow.testing import MemoryStore

MACHINES = f"arn:aws:states:eu-west-1:{ACCOUNT}:stateMachine:"
STAGE_MACHINE = f"{MACHINES}probe-stage"
ERRORS_MACHINE = f"{MACHINES}probe-errors"
PROBE_OUTPUTS = {"ProbeMachineArn": STAGE_MACHINE, "ProbeErrorsArn": ERRORS_MACHINE}

Play = Callable[[str, str, Mapping[str, Any]], Mapping[str, Any]]
"""What an execution comes to, by its machine, its name and its input: as DescribeExecution says it."""


def caught(error: str, cause: str = "") -> dict[str, Any]:
    """The machine that shows errors, when its Task failed."""
    return ended(output={"caught": {"Error": error, "Cause": cause}})


def answered(answer: Any) -> dict[str, Any]:
    return ended(output={"answer": answer})


def ended(
    status: str = "SUCCEEDED", *, output: Any = None, error: str = "", cause: str = ""
) -> dict[str, Any]:
    described = {"status": status, "error": error, "cause": cause}
    return described if output is None else {**described, "output": json.dumps(output)}


class Executions:
    """Step Functions, in which an execution is over as soon as it is looked at, unless it is said to be RUNNING."""

    def __init__(self, play: Play, *, others: Mapping[str, str] | None = None) -> None:
        """`others`: statuses of executions that nobody here started, by the end of their ARN."""
        self.started: list[tuple[str, Mapping[str, Any]]] = []
        self._play = play
        self._others = others or {}
        self._known: dict[str, Mapping[str, Any]] = {}

    def start_execution(self, *, stateMachineArn: str, name: str, input: str) -> dict[str, str]:  # noqa: A002, N803
        given = json.loads(input)
        self.started.append((stateMachineArn, given))
        arn = f"{stateMachineArn.replace(':stateMachine:', ':execution:')}:{name}"
        self._known[arn] = self._play(stateMachineArn, name, given)
        return {"executionArn": arn}

    def describe_execution(self, *, executionArn: str) -> Mapping[str, Any]:  # noqa: N803
        for suffix, status in self._others.items():
            if executionArn.endswith(suffix):
                return {"status": status}
        return self._known[executionArn]


def site(
    play: Play,
    *,
    store: MemoryStore | None = None,
    is_local: bool = False,
    others: Mapping[str, str] | None = None,
) -> ProbeSite:
    """A deployed pipeline, `books`, with a clock that only waiting moves."""
    passed = [0.0]

    def pause(seconds: float) -> None:
        passed[0] += seconds

    return ProbeSite(
        pipeline=DeployedPipeline.from_outputs(OUTPUTS, stack="books-dev"),
        stage_machine=STAGE_MACHINE,
        errors_machine=ERRORS_MACHINE,
        ledger=Ledger(store or MemoryStore("ledger")),
        stepfunctions=Executions(play, others=others),
        is_local=is_local,
        clock=lambda: passed[0],
        pause=pause,
    )


def leave_result(store: MemoryStore, run_id: str, *, succeeded: int, lost: Mapping[str, Kind]) -> None:
    """Write what a run of the probe's stage leaves behind."""
    keys = StageKeys(run_id, STAGE)
    ledger = Ledger(store)
    pointer = Pointer(bucket=store.bucket, key=keys.failures)
    output = StageOutput(
        run_id=run_id,
        stage=STAGE,
        tries=2,
        succeeded=succeeded,
        successes=Pointer(bucket=store.bucket, key=keys.successes),
        skipped=0,
        failed=len(lost),
        failures=pointer if lost else None,
        lost_in_run=len(lost),
    )
    counts = StageCounts(
        records_in=succeeded + len(lost),
        succeeded=succeeded,
        skipped=0,
        failed=len(lost),
        repetitions=Repetitions(),
        warnings=0,
        refused=0,
        repeated=0,
        retried=0,
    )
    result = StageResult(
        verdict=Verdict.EXHAUSTED if lost else Verdict.COMPLETE,
        cause="",
        output=output,
        counts=counts,
        failed_by_kind={},
        skip_reasons={},
        warned={},
        attempts=2,
        settled_at="2026-01-01T00:00:00.000Z",
    )
    ledger.write_json(keys.result, result.to_json())
    if lost:
        ledger.write_lines(
            keys.failures, (_failure(run_id, *each).to_line() for each in enumerate(lost.items()))
        )


def _failure(run_id: str, ordinal: int, item: tuple[str, Kind]) -> FailureRecord:
    record_id, kind = item
    return FailureRecord(
        ordinal=ordinal,
        run_id=run_id,
        pipeline="books",
        stage=STAGE,
        record_id=record_id,
        kind=kind,
        error_type="MemoryError",
        message="no memory",
        traceback="",
        fingerprint="f",
        tries=2,
        first_seen="2026-01-01T00:00:00.000Z",
        last_seen="2026-01-01T00:00:00.000Z",
        source={},
        code_version="probe",
    )
