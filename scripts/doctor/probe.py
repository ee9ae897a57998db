"""What a probe needs: the machines that are deployed for it, executions that end in time, and errors as findings."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from scripts.deployed.pipelines import DeployedPipeline
from scripts.doctor.check import Check, CheckGroup, check
from scripts.doctor.context import DoctorContext
from scripts.doctor.finding import Finding, NotExamined
from winnow.core.probe import Ask
from winnow.core.sfn_errors import innermost
from winnow.journal.reports import one_line
from winnow.storage.executions import RUNNING
from winnow.storage.ledger import Ledger
from winnow.storage.store import S3Store

POLL_SECONDS = 1.0

T = TypeVar("T")


class ProbeFailed(Exception):
    """A probe cannot go on; its finding says why."""

    def __init__(self, what: str, command: str = "") -> None:
        super().__init__(what)
        self.finding = Finding.failed(what, "See it:" if command else "", command)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedProbe:
    """An execution that has ended."""

    arn: str
    status: str
    output: Mapping[str, Any]
    error: str
    cause: str

    @property
    def caught(self) -> Mapping[str, Any]:
        """The error that the machine caught: `Error` and `Cause`; empty if nothing failed."""
        found: Mapping[str, Any] = self.output.get("caught") or {}
        return found

    @property
    def failed_as(self) -> str:
        """The name of the error that was caught, or that ended the execution; empty if nothing failed."""
        return str(self.caught.get("Error") or self.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSite:
    """The deployed pipeline that is probed, and AWS as probes use it."""

    pipeline: DeployedPipeline
    stage_machine: str
    """ARN of the probe stage's machine."""
    errors_machine: str
    """ARN of the machine that shows errors by their names."""
    ledger: Ledger
    stepfunctions: Any
    is_local: bool
    clock: Callable[[], float] = field(default=time.monotonic)
    pause: Callable[[float], None] = field(default=time.sleep)

    @classmethod
    def of(cls, context: DoctorContext) -> Self:
        """The site of what is examined.

        Raises:
            NotExamined: nothing is deployed, or a version that has no probe.
        """
        stack = context.stack()
        outputs = stack.outputs
        if "PipelineName" not in outputs:
            raise NotExamined("not deployed yet")
        if "ProbeMachineArn" not in outputs:
            raise NotExamined("the deployed version has no probe; deploy this one")
        pipeline = DeployedPipeline.from_outputs(outputs, stack=stack.name)
        return cls(
            pipeline=pipeline,
            stage_machine=outputs["ProbeMachineArn"],
            errors_machine=outputs["ProbeErrorsArn"],
            ledger=Ledger(S3Store(pipeline.ledger_bucket, context.client("s3"))),
            stepfunctions=context.client("stepfunctions"),
            is_local=context.target.is_local,
        )

    def run(self, machine: str, name: str, given: Mapping[str, Any], *, within: float) -> EndedProbe:
        """Start an execution and wait until it has ended.

        Raises:
            ProbeFailed: it has not, in so many seconds. It ends by itself.
        """
        started = self.stepfunctions.start_execution(
            stateMachineArn=machine, name=name, input=json.dumps(given)
        )
        arn = started["executionArn"]
        return self.wait_for(
            f"the end of {name}", lambda: self._ended(arn), within=within, command=describe_command(arn)
        )

    def ask(self, ask: Ask, run_id: str, *, within: float, how: str = "call", **more: Any) -> EndedProbe:
        """Ask the probe's function for something, through the machine that shows errors.

        Args:
            ask: what to do.
            run_id: of the probe; also the execution's name.
            within: as `run`.
            how: `call` by its ARN, as a worker is called, or `invoke`, as our own functions are.
            more: what else is asked.
        """
        given = {"how": how, "input": {"probe": ask.value, "run_id": run_id, **more}}
        return self.run(self.errors_machine, run_id, given, within=within)

    def answer(self, ask: Ask, run_id: str, *, within: float, **more: Any) -> Any:
        """What the probe's function answers; arguments as `ask` has them.

        Raises:
            ProbeFailed: it fails.
        """
        ended = self.ask(ask, run_id, within=within, **more)
        if "answer" not in ended.output:
            cause = innermost(ended.failed_as, str(ended.caught.get("Cause") or ended.cause))
            raise ProbeFailed(
                f"the probe's function failed: {one_line(str(cause))}", describe_command(ended.arn)
            )
        return ended.output["answer"]

    def status(self, arn: str) -> str:
        """An execution's status."""
        return str(self.stepfunctions.describe_execution(executionArn=arn)["status"])

    def _ended(self, arn: str) -> EndedProbe | None:
        described = self.stepfunctions.describe_execution(executionArn=arn)
        if described["status"] in RUNNING:
            return None
        return EndedProbe(
            arn=arn,
            status=described["status"],
            output=json.loads(described.get("output") or "{}"),
            error=described.get("error") or "",
            cause=described.get("cause") or "",
        )

    def wait_for(self, what: str, look: Callable[[], T | None], *, within: float, command: str = "") -> T:
        """Look again and again until there is something.

        Raises:
            ProbeFailed: there is nothing after so many seconds.
        """
        until = self.clock() + within
        while (found := look()) is None:
            if self.clock() > until:
                raise ProbeFailed(f"{what} did not come within {within:.0f} s", command)
            self.pause(POLL_SECONDS)
        return found


def execution_of(machine: str, name: str) -> str:
    """The ARN of an execution by its name."""
    return f"{machine.replace(':stateMachine:', ':execution:', 1)}:{name}"


def describe_command(arn: str) -> str:
    """What shows an execution."""
    return f"aws stepfunctions describe-execution --execution-arn {arn}"


def probe(name: str, look: Callable[[ProbeSite], Finding]) -> Check:
    """Make a check of a function that probes."""

    @check(name, CheckGroup.PROBE)
    def probed(context: DoctorContext) -> Finding:
        return finding_of(look, ProbeSite.of(context))

    return probed


def finding_of(look: Callable[[ProbeSite], Finding], site: ProbeSite) -> Finding:
    """What a probe finds, also where it cannot go on."""
    try:
        return look(site)
    except ProbeFailed as failed:
        return failed.finding
