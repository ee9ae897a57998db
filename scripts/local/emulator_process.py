"""The emulator's own process: ministack, and what it has to refuse as AWS does."""

from __future__ import annotations

from typing import Any

from ministack.app import main
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


if __name__ == "__main__":
    refuse_used_names()
    main()
