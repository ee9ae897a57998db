"""Executions that may go on although the attempts that they make are settled without them.

AWS documents when Step Functions cancels the execution that a `.sync` task waits for, as best it can (page connect-to-resource of the
developer guide): where the waiting execution is stopped, or fails in another branch. A task that timed out is not among these. What
goes on after its attempt was settled can change nothing any more, but it costs money, and calls what the worker calls.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from winnow.core.contract import attempt_execution_name
from winnow.core.sfn_errors import was_stopped
from winnow.metrics.watch import get_logger

MOST_SECONDS = 30.0
"""Settling waits for it."""
ERROR = "SettledWithoutIt"
"""The error of the executions that are stopped."""


class Stoppable(Protocol):
    """What is asked of Step Functions."""

    def arn(self, name: str) -> str:
        """The ARN that an execution of a name has, or would have."""

    def stop(self, execution: str, *, error: str, cause: str) -> bool:
        """Stop an execution, which is harmless where it is over; False when there is none."""


def stop_overtaken(executions: Stoppable, state: Mapping[str, Any], execution: str) -> None:
    """Stop every attempt below the one whose execution caught `nested_error`. Never raises.

    The attempt next below comes first: one that only saw its own nested execution stopped would go on with another.
    Where the nested execution was stopped by hand there is nothing to do: Step Functions stopped what that one waited for.
    """
    try:
        if was_stopped(str(state["nested_error"].get("Cause") or "")):
            return
        attempt, run_id = state["order"]["attempt"], state["order"]["run_id"]
        cause = f"attempt {attempt} settled the stage without it, in {execution}"
        deadline = time.monotonic() + MOST_SECONDS
        while time.monotonic() < deadline:
            attempt += 1
            below = executions.arn(attempt_execution_name(run_id, attempt))
            if not executions.stop(below, error=ERROR, cause=cause):
                return
            get_logger().info("stopped what is settled without it, or was over", execution=below)
        get_logger().warning("executions may go on: their time to be stopped is over", attempt=attempt)
    except Exception as error:  # noqa: BLE001  all that the worker achieved hangs on settling
        get_logger().warning("an execution may go on: it could not be stopped", error=str(error))
