"""Executions of the pipeline's state machine: started by name, looked up by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Mapping

RUNNING = frozenset({"RUNNING", "PENDING_REDRIVE"})


class Executions(Protocol):
    """What Winnow asks of Step Functions."""

    def start(self, name: str, payload: Mapping[str, Any]) -> bool:
        """Start an execution; False when one of that name exists. A name is used once in 90 days."""

    def arn(self, name: str) -> str:
        """The ARN that an execution of a name has, or would have."""

    def status(self, execution: str) -> str | None:
        """RUNNING, SUCCEEDED, FAILED, TIMED_OUT or ABORTED; None when there is no such execution (any more)."""


class StepFunctions:
    """Executions of one state machine."""

    def __init__(self, *, machine_arn: str, stepfunctions: Any) -> None:
        self._machine_arn = machine_arn
        self._stepfunctions = stepfunctions

    @classmethod
    def of(cls, execution: str, stepfunctions: Any) -> StepFunctions:
        """Executions of the machine that a given execution is of: PlanRun cannot be told the machine that invokes it."""
        machine, _, _ = execution.replace(":execution:", ":stateMachine:", 1).rpartition(":")
        return cls(machine_arn=machine, stepfunctions=stepfunctions)

    def start(self, name: str, payload: Mapping[str, Any]) -> bool:
        try:
            self._stepfunctions.start_execution(
                stateMachineArn=self._machine_arn, name=name, input=json.dumps(payload, ensure_ascii=False)
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ExecutionAlreadyExists":
                return False
            raise
        return True

    def arn(self, name: str) -> str:
        return f"{self._machine_arn.replace(':stateMachine:', ':execution:', 1)}:{name}"

    def status(self, execution: str) -> str | None:
        try:
            return str(self._stepfunctions.describe_execution(executionArn=execution)["status"])
        except ClientError as error:
            if error.response["Error"]["Code"] == "ExecutionDoesNotExist":
                return None
            raise
