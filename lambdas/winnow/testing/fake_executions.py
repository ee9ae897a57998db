"""Executions of a state machine in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class FakeExecutions:
    """Executions in memory, for tests."""

    def __init__(self) -> None:
        self.started: dict[str, Mapping[str, Any]] = {}
        self.statuses: dict[str, str] = {}

    def start(self, name: str, payload: Mapping[str, Any]) -> bool:
        if name in self.started:
            return False
        self.started[name] = payload
        self.statuses[self.arn(name)] = "RUNNING"
        return True

    def arn(self, name: str) -> str:
        return f"arn:aws:states:eu-west-1:000000000000:execution:catalogue:{name}"

    def status(self, execution: str) -> str | None:
        return self.statuses.get(execution)
