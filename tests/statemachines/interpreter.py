"""Executes state machines in-process, with plain Python functions where they call Lambda."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moto.core.exceptions import JsonRESTError

from tests.patience import await_

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:"
ROLE = "arn:aws:iam::123456789012:role/machine"


def function_arn(name: str) -> str:
    return f"{ARN}{name}"


class FunctionFailed(Exception):
    """A function that ends with an error, under the name that Step Functions sees."""

    def __init__(self, name: str, message: str = "no reason") -> None:
        super().__init__(message)
        self.name = name


class ServiceRefused(Exception):
    """Lambda itself refuses the call: the function does not run."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What became of an execution."""

    status: str
    output: Any
    error: str | None
    cause: str | None
    states: list[str]
    calls: list[tuple[str, Any]]
    """Functions that were called, with what."""
    waits: list[float]
    """Seconds before retries, which were not really waited for."""

    def called(self, name: str) -> list[Any]:
        """Payloads that a function was called with."""
        return [payload for called, payload in self.calls if called == name]

    @property
    def count(self) -> Counter[str]:
        return Counter(name for name, _ in self.calls)


@dataclass
class Interpreter:
    """moto's Step Functions, and what its functions do."""

    client: Any
    waits: list[float]
    functions: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    _machines: dict[str, str] = field(default_factory=dict)
    """ARNs by definition, because parsing one takes moto a quarter of a second."""
    _executions: int = 0

    def invoke(self, arn: str, body: str, response_headers: dict[str, str]) -> bytes:
        """Replaces Lambda."""
        name = arn.removeprefix(ARN)
        payload = json.loads(body)
        self.calls.append((name, payload))
        try:
            return json.dumps(self.functions[name](payload)).encode()
        except FunctionFailed as failure:
            response_headers["x-amz-function-error"] = "Unhandled"
            return json.dumps({"errorType": failure.name, "errorMessage": str(failure)}).encode()
        except ServiceRefused as refusal:
            raise JsonRESTError(refusal.code, "refused") from None

    def run(self, definition: Mapping[str, Any], given: object) -> Execution:
        """Run a machine to its end."""
        self.calls.clear()
        self.waits.clear()
        self._executions += 1
        execution = self.client.start_execution(
            stateMachineArn=self._machine(json.dumps(definition)),
            name=f"execution-{self._executions}",
            input=json.dumps(given),
        )["executionArn"]
        found = await_("the end of the execution", lambda: self._ended(execution))
        history = self.client.get_execution_history(executionArn=execution)["events"]
        return Execution(
            status=found["status"],
            output=json.loads(found["output"]) if found.get("output") else None,
            error=found.get("error"),
            cause=found.get("cause"),
            states=[
                event["stateEnteredEventDetails"]["name"]
                for event in history
                if "stateEnteredEventDetails" in event
            ],
            calls=list(self.calls),
            waits=list(self.waits),
        )

    def _ended(self, execution: str) -> dict[str, Any] | None:
        found: dict[str, Any] = self.client.describe_execution(executionArn=execution)
        return None if found["status"] == "RUNNING" else found

    def _machine(self, definition: str) -> str:
        if definition not in self._machines:
            name = f"machine-{len(self._machines)}"
            made = self.client.create_state_machine(name=name, definition=definition, roleArn=ROLE)
            self._machines[definition] = made["stateMachineArn"]
        return self._machines[definition]


def always(value: object) -> Callable[[Any], Any]:
    """A function that answers the same each time."""
    return lambda _payload: value


def in_turn(*answers: object) -> Callable[[Any], Any]:
    """A function that answers, or fails, differently each time; the last answer stays."""
    left = list(answers)

    def answer(_payload: Any) -> Any:
        value = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(value, Exception):
            raise value
        return value

    return answer
