"""The emulator's own process: ministack, and what it has to refuse as AWS does."""

from __future__ import annotations

import json
from typing import Any

from ministack.app import main
from ministack.core import lambda_runtime
from ministack.services import stepfunctions

# ruff: noqa: SLF001  ministack has no public way to change this


def refuse_used_names() -> None:
    """Have `startExecution.sync` refuse a name that its state machine has had; ministack overwrites that execution."""
    start = stepfunctions._invoke_nested_start_execution_sync

    def start_once(resource: str, parameters: dict[str, Any]) -> Any:
        request = stepfunctions._nested_start_execution_request(parameters)
        machine = request["stateMachineArn"].replace(":stateMachine:", ":execution:")
        execution = f"{machine}:{request.get('name')}"
        if execution in stepfunctions._executions:
            raise stepfunctions._ExecutionError(
                "StepFunctions.ExecutionAlreadyExistsException", f"Execution Already Exists: '{execution}'"
            )
        return start(resource, parameters)

    stepfunctions._invoke_nested_start_execution_sync = start_once


def describe_stopped_executions() -> None:
    """Have `startExecution.sync` tell of a nested execution that was stopped as AWS does: with its description, as JSON."""
    tell = stepfunctions._nested_execution_failure

    def tell_described(payload: dict[str, Any]) -> tuple[str, str]:
        if payload.get("status") != "ABORTED":
            error: tuple[str, str] = tell(payload)
            return error
        stopped = stepfunctions._executions.get(payload.get("executionArn"), {})
        described = {
            "ExecutionArn": payload.get("executionArn"),
            "Name": payload.get("name"),
            "Status": "ABORTED",
            "Error": stopped.get("error"),
            "Cause": stopped.get("cause"),
        }
        return "States.TaskFailed", json.dumps(described)

    stepfunctions._nested_execution_failure = tell_described


SLACK_FUNCTION = "AlertsSlack"
"""In the name of the function that posts to Slack, which always logs what became of a message."""
LOG_SECONDS = 5.0


def await_what_slack_says() -> None:
    """Have what the Slack function logs come into its log however busy the machine is.

    ministack waits 50 ms for a line and 5 ms for the next; a line that it reads later is in no log until the function's next call. It
    is by this log that `winnow alert test` knows that an alert arrived. Waiting longer for all functions would slow down
    each call of one that logs nothing.
    """
    drain = lambda_runtime.Worker._drain_stderr_bounded

    def drain_patiently(worker: Any, *arguments: float, **options: float) -> str:
        if SLACK_FUNCTION in worker.func_name:
            options = {"first_line_wait": LOG_SECONDS, "idle_confirm": 0.2, "hard_cap": 2 * LOG_SECONDS}
            return str(drain(worker, **options))
        return str(drain(worker, *arguments, **options))

    lambda_runtime.Worker._drain_stderr_bounded = drain_patiently


if __name__ == "__main__":
    refuse_used_names()
    describe_stopped_executions()
    await_what_slack_says()
    main()
