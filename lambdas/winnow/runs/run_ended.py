"""How a run ended, as EventBridge says it, or as Step Functions does when asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from winnow.core.contract import SUCCEEDED
from winnow.core.sfn_errors import innermost


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """An execution of the pipeline that has ended."""

    execution: str
    name: str
    status: str
    started: datetime | None
    stopped: datetime | None
    input: Mapping[str, Any]
    output: Mapping[str, Any]
    error: str
    cause: str
    redrives: int
    """How often Step Functions itself restarted it. Each restart ends with an event of its own."""

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Self:
        """Raises KeyError for an event of another type."""
        detail = event["detail"]
        return cls(
            execution=detail["executionArn"],
            name=detail["name"],
            status=detail["status"],
            started=_moment(detail.get("startDate")),
            stopped=_moment(detail.get("stopDate")),
            input=_document(detail.get("input")),
            output=_document(detail.get("output")),
            error=detail.get("error") or "",
            cause=detail.get("cause") or "",
            redrives=detail.get("redriveCount") or 0,
        )

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Self:
        """Takes what DescribeExecution answers about an execution that has ended."""
        return cls(
            execution=description["executionArn"],
            name=description["name"],
            status=description["status"],
            started=description.get("startDate"),
            stopped=description.get("stopDate"),
            input=_document(description.get("input")),
            output=_document(description.get("output")),
            error=description.get("error") or "",
            cause=description.get("cause") or "",
            redrives=description.get("redriveCount") or 0,
        )

    @property
    def succeeded(self) -> bool:
        return self.status == SUCCEEDED

    @property
    def seconds(self) -> float | None:
        return (self.stopped - self.started).total_seconds() if self.started and self.stopped else None

    @property
    def reason(self) -> str:
        """Why it failed, for people; empty when Step Functions gives no reason."""
        return str(innermost(self.error, self.cause))


def _moment(milliseconds: object) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if isinstance(milliseconds, int | float) else None


def _document(text: object) -> Mapping[str, Any]:
    """Input or output of an execution; empty when EventBridge left it out because of its size."""
    try:
        document = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        document = None
    return document if isinstance(document, Mapping) else {}
