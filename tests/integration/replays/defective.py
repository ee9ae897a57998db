"""The example's transform with a defect: it rejects what it ought to warn of."""

from __future__ import annotations

from typing import Any

from catalogue.transform import transform as correct
from winnow import PermanentError, Record, Skip, worker


class Unreadable(PermanentError):
    """What a stricter version once called it."""


@worker
def transform(record: Record) -> dict[str, Any] | Skip:
    made: dict[str, Any] | Skip = correct.function(record)
    if record.warnings:
        raise Unreadable(record.warnings[0])
    return made
