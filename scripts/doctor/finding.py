"""The result of one check."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self


class FindingStatus(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    """It works, but something should be known, or done soon."""
    FAILED = "failed"
    """Something does not work, or will not."""
    SKIPPED = "skipped"
    """It was not examined; the finding says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, in words."""

    status: FindingStatus
    what: str
    """What was found, or why it was not examined; one line."""
    remedy: str = ""
    """What to do about it, as a sentence; empty where nothing is to be done."""
    command: str = ""
    """What to type, exactly; printed on a line of its own, so that it can be copied."""

    @classmethod
    def ok(cls, what: str) -> Self:
        """All is well."""
        return cls(FindingStatus.OK, what)

    @classmethod
    def warning(cls, what: str, remedy: str = "", command: str = "") -> Self:
        """It works, but."""
        return cls(FindingStatus.WARNING, what, remedy, command)

    @classmethod
    def failed(cls, what: str, remedy: str = "", command: str = "") -> Self:
        """It does not work."""
        return cls(FindingStatus.FAILED, what, remedy, command)

    @classmethod
    def skipped(cls, why: str, remedy: str = "", command: str = "") -> Self:
        """It was not examined."""
        return cls(FindingStatus.SKIPPED, why, remedy, command)

    def to_json(self) -> dict[str, Any]:
        """All fields; those that are empty, too."""
        return {
            "status": self.status.value,
            "what": self.what,
            "remedy": self.remedy,
            "command": self.command,
        }


class NotExamined(Exception):
    """A check lacks something that another check tells about; it is skipped with this reason."""
