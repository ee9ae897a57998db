"""The probe stage's worker: each record's data says what it does, in the first attempt and in later ones."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from winnow.core.errors import TransientError
from winnow.probing import faults
from winnow.runtime.decorator import worker

if TYPE_CHECKING:
    from winnow.core.record import Record

FLUSH_SECONDS = 2.0


class _Attempt:
    """Which attempt this process works on. A careful child is never told: it works on later ones only."""

    is_first = False


def in_attempt(number: int) -> None:
    """Say which attempt of the stage the next invocation is."""
    _Attempt.is_first = number == 0


@worker(flush_seconds=FLUSH_SECONDS)
def work(record: Record) -> dict[str, Any]:
    """Data: `{"first": {"do", …}, "later": {"do", …}}`; a step that is missing does nothing."""
    data = record.data if isinstance(record.data, Mapping) else {}
    step = data.get("first" if _Attempt.is_first else "later") or {}
    match step.get("do"):
        case None:
            pass
        case "wait":
            time.sleep(step["seconds"])
        case "fail":
            raise TransientError("failed on purpose by winnow doctor --probe")
        case "exit":
            faults.leave()
        case "allocate":
            faults.allocate(step["mb"])
        case unknown:
            raise ValueError(f"do must be wait, fail, exit or allocate, got: {unknown!r}")
    return {}
