"""A long list of records whose worker pauses half way, written where a stage can be given it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from winnow.core.contract import Pointer
from winnow.core.keys import StageKeys
from winnow.core.probe import STAGE
from winnow.storage.ledger import Ledger


def write_list(ledger: Ledger, order: Mapping[str, Any]) -> dict[str, Any]:
    """Write a list for the probe stage; returns the pointer to it. `order` is as `Ask.LIST` says."""
    key = StageKeys(order["run_id"], STAGE).input
    ledger.write_records(key, _rows(order))
    return Pointer(bucket=ledger.bucket, key=key).to_payload()


def _rows(order: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    filling = "x" * order["row_bytes"]
    pause = {"do": "wait", "seconds": order["seconds"]}
    for number in range(order["rows"]):
        steps = {"first": pause} if number in order["waits"] else {}
        yield {"id": f"row-{number:04d}", "data": {**steps, "filling": filling}}
