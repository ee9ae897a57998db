"""Settle: after an attempt, or after a recursion that died, say what happens next."""

from __future__ import annotations

from typing import Any

from winnow.metrics.watch import watched
from winnow.settings import Settings
from winnow.settlement.settle import settle
from winnow.storage.ledger import Ledger


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda entry point; the payload is the stage machine's (`execution`, `state`)."""
    settings = Settings.from_env()
    order = event["state"]["order"]
    with watched(settings, stage=order["stage"], run_id=order["run_id"], context=context) as watch:
        return settle(Ledger.of_bucket(settings.need("ledger_bucket")), event["state"], watch.count)
