"""What goes on after its attempt was settled without it is stopped, and settling never waits for that in vain."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from winnow.settlement import overtaken
from winnow.settlement.overtaken import stop_overtaken
from winnow.storage.executions import StepFunctions

RUN = "01JD7ZK3V5Q8W9X0Y1Z2A3B4C5"
EXECUTION = f"arn:aws:states:eu-west-1:123456789012:execution:adapt-stage:{RUN}"
TIMED_OUT = {"Error": "States.Timeout", "Cause": ""}
DIED = {"Error": "States.TaskFailed", "Cause": json.dumps({"Status": "TIMED_OUT", "ExecutionArn": "arn"})}
STOPPED_BY_HAND = {"Error": "States.TaskFailed", "Cause": json.dumps({"Status": "ABORTED"})}


class Executions:
    """StopExecution as strict as AWS: what is over, or never was, is refused."""

    def __init__(self, **statuses: str) -> None:
        self.statuses = {f"{EXECUTION}.{name.removeprefix('n')}": status for name, status in statuses.items()}
        self.stopped: list[str] = []
        self.refusal: Exception | None = None

    def stop_execution(self, *, executionArn: str, error: str, cause: str) -> dict[str, Any]:  # noqa: N803
        if self.refusal:
            raise self.refusal
        assert len(error) <= 256
        assert len(cause) <= 32_768
        status = self.statuses.get(executionArn)
        if status is None:
            raise refused("ExecutionDoesNotExist")
        if status != "RUNNING":
            raise refused("ValidationException")
        self.statuses[executionArn] = "ABORTED"
        self.stopped.append(executionArn)
        return {}


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "StopExecution")


def stop(executions: Executions, caught: dict[str, str] = TIMED_OUT, *, attempt: int = 0) -> list[str]:
    """Attempts that were stopped, in that order."""
    state = {"order": {"run_id": RUN, "attempt": attempt}, "nested_error": caught}
    stop_overtaken(StepFunctions.of(EXECUTION, executions), state, EXECUTION)
    return [each.removeprefix(EXECUTION) for each in executions.stopped]


def test_stops_the_attempt_that_was_waited_for_and_those_below_from_the_top() -> None:
    assert stop(Executions(n1="RUNNING", n2="RUNNING", n3="RUNNING")) == [".1", ".2", ".3"]


def test_leaves_alone_what_is_over_and_stops_what_that_left_behind() -> None:
    assert stop(Executions(n1="TIMED_OUT", n2="FAILED", n3="RUNNING"), DIED) == [".3"]


def test_stops_nothing_above_itself() -> None:
    assert stop(Executions(n1="RUNNING", n2="RUNNING", n3="RUNNING"), attempt=2) == [".3"]


def test_stops_nothing_where_the_nested_execution_was_stopped_by_hand() -> None:
    assert stop(Executions(n1="ABORTED", n2="RUNNING"), STOPPED_BY_HAND) == []


def test_does_nothing_where_nothing_was_started() -> None:
    assert stop(Executions()) == []


@pytest.mark.parametrize(
    "refusal",
    [
        refused("AccessDeniedException"),
        EndpointConnectionError(endpoint_url="https://states"),
        KeyError("odd"),
    ],
    ids=["forbidden", "away", "odd"],
)
def test_never_breaks_settling(refusal: Exception) -> None:
    executions = Executions(n1="RUNNING")
    executions.refusal = refusal

    assert stop(executions) == []


def test_never_breaks_settling_by_what_was_caught() -> None:
    stop_overtaken(
        StepFunctions.of(EXECUTION, Executions()), {"order": {}, "nested_error": TIMED_OUT}, EXECUTION
    )


def test_keeps_settling_waiting_for_no_longer_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overtaken, "MOST_SECONDS", 0.0)

    assert stop(Executions(n1="RUNNING")) == []
