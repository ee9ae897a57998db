"""An attempt that is over: all that its settlement follows from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from winnow.batch.plan import Plan
from winnow.core.contract import Policy
from winnow.core.sfn_errors import WORKER_DEATHS, innermost
from winnow.journal.evidence import Evidence
from winnow.journal.reports import one_line
from winnow.journal.segment import Stop
from winnow.settlement.settlement import Settlement

MAX_ERROR_CHARS = 500
"""Of the message of the error that the worker ended with."""


def error_in_one_line(caught: Mapping[str, Any]) -> str:
    """The error that a state caught, where it began: its name with its message. Takes `Error` and `Cause`."""
    error = innermost(str(caught.get("Error", "unknown")), str(caught.get("Cause") or ""))
    message = one_line(error.message, MAX_ERROR_CHARS)
    return f"{error.error}: {message}" if message else error.error


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnd:
    """How the state machine saw the worker end."""

    error: str = ""
    """Error name; empty if the worker returned."""
    message: str = ""
    claimed: int = 0
    """Records that the worker's return value says are done."""
    began: bool = True
    """Whether the attempt called the worker at all; a nested execution may end before it does."""

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> WorkerEnd:
        caught = state.get("worker_error")
        if isinstance(caught, Mapping):
            error = str(caught.get("Error", "unknown"))
            message = innermost(error, str(caught.get("Cause") or "")).message
            return cls(error=error, message=one_line(message, MAX_ERROR_CHARS))
        report = state.get("worker")
        if not isinstance(report, Mapping):
            return cls()
        counts = (report.get("succeeded"), report.get("skipped"))
        return cls(claimed=sum(count for count in counts if type(count) is int))

    def lived(self, evidence: Evidence) -> bool:
        """Whether the worker returned or raised. If not, it was killed."""
        if not self.error:
            return True
        if self.error in WORKER_DEATHS:
            return False
        if self.error.startswith("Runtime."):
            # Lambda uses these names for both. A worker that raises says so in its last segment.
            return bool(evidence.segments) and evidence.segments[-1].stop is not None
        return True

    def __str__(self) -> str:
        """The error with its message."""
        return f"{self.error}: {self.message}" if self.message else self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedAttempt:
    """One attempt: what it was given, what its journal proves, and how it ended."""

    plan: Plan
    before: Settlement
    """The settlement of the attempt before; its `next` is what this attempt was given."""
    evidence: Evidence
    number: int
    try_count: int
    policy: Policy
    end: WorkerEnd
    recursion_error: str | None = None
    """Why the execution of this attempt, or of a deeper one, ended without a result; None if it did not."""
    stopped: bool = False
    """Somebody stopped that execution, and not the whole run: the execution above it is alive, settles it, and goes on."""

    @property
    def recursion_died(self) -> bool:
        """Whether the execution of this attempt, or of a deeper one, ended so that nobody can go on."""
        return self.recursion_error is not None and not self.stopped

    @property
    def lived(self) -> bool:
        """Whether the worker returned or raised. If not, it was killed."""
        was_running = self.stopped and self.end.began
        return not was_running and self.end.lived(self.evidence)

    @property
    def stop(self) -> Stop | None:
        """Why the worker stopped; None if it was killed or never said."""
        return self.evidence.stop if self.lived else None
