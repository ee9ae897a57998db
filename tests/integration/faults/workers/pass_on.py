"""An honest worker."""

from __future__ import annotations

from typing import Any

from winnow import Record, worker


@worker(flush_seconds=1)
def pass_on(record: Record) -> dict[str, Any]:
    return record.data if isinstance(record.data, dict) else {}
