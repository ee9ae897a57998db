"""Finds a run by whatever people know it by: its id, the name of its execution, or the ARN of its execution."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from winnow.batch.plan import find_plan
from winnow.core import keys
from winnow.core.contract import RUN_ID, SUCCEEDED
from winnow.core.keys import StageKeys
from winnow.core.run_document import RunDocument
from winnow.planning.claim import AttemptClaim
from winnow.proof.prove import Proof, prove, prove_alone
from winnow.proof.trace import Trace, trace
from winnow.storage.executions import RUNNING, StepFunctions
from winnow.storage.ledger import Ledger
from winnow.storage.state_table import DynamoStateTable
from winnow.storage.store import S3Store

if TYPE_CHECKING:
    from scripts.deployed.pipelines import DeployedPipeline
    from scripts.deployed.target import Target

NO_EXECUTION = frozenset({"ExecutionDoesNotExist", "InvalidArn", "ValidationException"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRun:
    """A run, or a stage run that was started by itself, in the ledger that has it."""

    run_id: str
    pipeline: str
    ledger: Ledger
    document: RunDocument | None
    """Its `run.json`; None where its stages were started by themselves."""
    alone: Mapping[str, str]
    """Stages that were started by themselves under this run id, and the execution of each; empty where there is a `run.json`."""

    @property
    def executions(self) -> tuple[str, ...]:
        """ARNs of the executions whose status is the run's."""
        return (self.document.execution,) if self.document else tuple(filter(None, self.alone.values()))

    @property
    def stepped_aside(self) -> str | None:
        """Why the run did nothing; None if it ran."""
        return self.document.stepped_aside if self.document else None

    def prove(self, *, status: str | None, deep: bool = False) -> Proof:
        """The proof of the run, or of the stages that were started by themselves. `deep`: read all outputs, too."""
        if self.document:
            return prove(self.ledger, self.run_id, status=status, deep=deep)
        return prove_alone(self.ledger, self.run_id, tuple(self.alone), status=status, deep=deep)

    def trace(self, record_id: str) -> Trace:
        """What became of a record in it."""
        return trace(self.ledger, self.run_id, record_id, tuple(self.alone) or None)

    def status(self, stepfunctions: Any) -> str | None:
        """Step Functions' word for how the run ended, or RUNNING; None where Step Functions does not know it any more.

        Of stages that were started by themselves under one run id: what is worst.
        """
        machine = StepFunctions(machine_arn="", stepfunctions=stepfunctions)
        statuses = [machine.status(each) for each in self.executions] or [None]
        running = [each for each in statuses if each in RUNNING]
        return next((each for each in [*running, *statuses] if each != SUCCEEDED), SUCCEEDED)


def find_run(target: Target, name: str, candidates: Sequence[DeployedPipeline]) -> FoundRun | None:
    """The run that a name means, in the ledgers of some pipelines.

    Args:
        target: where to look.
        name: its run id; or the name or the ARN of an execution, of a pipeline's machine or a stage's.
        candidates: the pipelines.
    """
    s3 = target.client("s3")
    ledgers = [Ledger(S3Store(pipeline.ledger_bucket, s3)) for pipeline in candidates]
    for pipeline, ledger in zip(candidates, ledgers, strict=True):
        if found := _in_ledger(pipeline, ledger, name):
            return found
    for pipeline, ledger in zip(candidates, ledgers, strict=True):
        execution = name
        if not name.startswith("arn:"):
            execution = StepFunctions(machine_arn=pipeline.arn, stepfunctions=None).arn(name)
        for run_id in dict.fromkeys(_ids_of_execution(target, pipeline, execution)):
            found = _in_ledger(pipeline, ledger, run_id)
            if found and execution in found.executions:
                return found
    return None


def _in_ledger(pipeline: DeployedPipeline, ledger: Ledger, run_id: str) -> FoundRun | None:
    if not RUN_ID.fullmatch(run_id):
        return None
    document = ledger.find(keys.run(run_id), RunDocument.from_json)
    alone = {} if document else dict(_alone(pipeline, ledger, run_id))
    if not document and not alone:
        return None
    return FoundRun(run_id=run_id, pipeline=pipeline.name, ledger=ledger, document=document, alone=alone)


def _alone(pipeline: DeployedPipeline, ledger: Ledger, run_id: str) -> Iterator[tuple[str, str]]:
    """Stages that were planned under a run id, and the execution that claimed the first attempt of each."""
    for stage in pipeline.stages:
        stage_keys = StageKeys(run_id, stage)
        if find_plan(ledger, stage_keys):
            claim = ledger.find(stage_keys.attempt(0).claim, AttemptClaim.from_json)
            yield stage, claim.execution if claim else ""


def _ids_of_execution(target: Target, pipeline: DeployedPipeline, execution: str) -> Iterator[str]:
    """Ids that the run of an execution may have: where the caller gave none, PlanRun or Plan made one."""
    yield execution.rpartition(":")[2]
    try:
        described = target.client("stepfunctions").describe_execution(executionArn=execution)
    except ClientError as error:
        if error.response["Error"]["Code"] in NO_EXECUTION:
            return
        raise
    for text in (described.get("input"), described.get("output")):
        document = json.loads(text) if text else None
        run_id = document.get("run_id") if isinstance(document, dict) else None
        if isinstance(run_id, str):
            yield run_id
    if pipeline.state_table:
        made = DynamoStateTable(pipeline.state_table, target.client("dynamodb")).find_run(execution)
        if made:
            yield made
