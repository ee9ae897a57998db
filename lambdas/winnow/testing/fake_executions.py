"""Executions of a state machine in memory."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class FakeExecutions:
    """Executions in memory, for tests."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self.started: dict[str, Mapping[str, Any]] = {}
        self._clock = clock
        self._lock = threading.Lock()
        self._started_at: dict[str, float] = {}
        self.statuses: dict[str, str] = {}

    def start(self, name: str, payload: Mapping[str, Any]) -> bool:
        with self._lock:
            if name in self.started:
                return False
            self._started_at[self.arn(name)] = self._clock()
            self.statuses[self.arn(name)] = "RUNNING"
            self.started[name] = payload
            return True

    def arn(self, name: str) -> str:
        return f"arn:aws:states:eu-west-1:000000000000:execution:catalogue:{name}"

    def status(self, execution: str) -> str | None:
        return self.statuses.get(execution)

    def started_at(self, execution: str) -> float | None:
        return self._started_at.get(execution)
