"""Executions of the pipeline's state machine: started by name, looked up by name, listed when they have ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

RUNNING = frozenset({"RUNNING", "PENDING_REDRIVE"})


ENDED = ("FAILED", "TIMED_OUT", "ABORTED", "SUCCEEDED")
"""Statuses of an execution that has ended."""
PAGE = 1000
"""The most that Step Functions lists at once."""
MOST_PAGES = 10
"""Of each status. More runs than this within a few days are not one pipeline's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedExecution:
    """An execution that has ended, as a list has it."""

    arn: str
    stopped: datetime
    redrives: int
    """How often Step Functions itself restarted it."""

    @classmethod
    def from_listing(cls, listed: Mapping[str, Any]) -> Self:
        return cls(
            arn=listed["executionArn"], stopped=listed["stopDate"], redrives=listed.get("redriveCount") or 0
        )


class Executions(Protocol):
    """What Winnow asks of Step Functions."""

    def start(self, name: str, payload: Mapping[str, Any]) -> bool:
        """Start an execution; False when one of that name exists. A name is used once in 90 days."""

    def arn(self, name: str) -> str:
        """The ARN that an execution of a name has, or would have."""

    def status(self, execution: str) -> str | None:
        """RUNNING, SUCCEEDED, FAILED, TIMED_OUT or ABORTED; None when there is no such execution (any more)."""

    def started_at(self, execution: str) -> float | None:
        """Unix time at which an execution was started; None when there is no such execution (any more)."""


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

    def ended(self, *, since: datetime) -> Iterator[EndedExecution]:
        """Executions that have ended since a moment, in no order.

        Step Functions lists them by when they started, newest first, so a page without any that ended since then is the last one
        to be read. Only an execution that ran while a thousand younger ones began and ended is overlooked.
        """
        for status in ENDED:
            page: dict[str, Any] = {}
            for _ in range(MOST_PAGES):
                more = {"nextToken": page["nextToken"]} if page else {}
                page = self._stepfunctions.list_executions(
                    stateMachineArn=self._machine_arn, statusFilter=status, maxResults=PAGE, **more
                )
                found = [EndedExecution.from_listing(each) for each in page["executions"]]
                found = [each for each in found if each.stopped >= since]
                yield from found
                if not found or not page.get("nextToken"):
                    break

    def describe(self, execution: str) -> Mapping[str, Any]:
        """What Step Functions says of an execution; see DescribeExecution."""
        found: Mapping[str, Any] = self._stepfunctions.describe_execution(executionArn=execution)
        return found

    def status(self, execution: str) -> str | None:
        found = self._find(execution)
        return None if found is None else str(found["status"])

    def started_at(self, execution: str) -> float | None:
        found = self._find(execution)
        return None if found is None else float(found["startDate"].timestamp())

    def _find(self, execution: str) -> Mapping[str, Any] | None:
        try:
            return self.describe(execution)
        except ClientError as error:
            if _does_not_exist(error):
                return None
            raise

    def stop(self, execution: str, *, error: str, cause: str) -> bool:
        """Stop an execution, which is harmless where it is over; False when there is none."""
        try:
            self._stepfunctions.stop_execution(executionArn=execution, error=error, cause=cause)
        except ClientError as refusal:
            if _does_not_exist(refusal):
                return False
            if refusal.response["Error"]["Code"] != "ValidationException":  # it is over
                raise
        return True


def _does_not_exist(error: ClientError) -> bool:
    return bool(error.response["Error"]["Code"] == "ExecutionDoesNotExist")
