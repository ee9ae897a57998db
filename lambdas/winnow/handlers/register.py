"""Register: writes the attempt's failures into the failure register, and leaves known failures out of the alert.

Invoked by the stage machine after Settle. The machine goes on if this fails: closing the run makes up for it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from winnow.metrics.watch import Metric, watched
from winnow.register.registering import register_state
from winnow.register.table import RegisterTable
from winnow.settings import Settings
from winnow.storage.clients import QUICK, lazy
from winnow.storage.ledger import Ledger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

RESERVE_SECONDS = 15.0
"""Kept back to end in an orderly way: a window of failures that was begun takes some seconds."""


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Payload: `{"execution", "state"}`, as Settle left the state; returns the state, with `alert` as the register sees it."""
    settings = Settings.from_env()
    order = event["state"]["order"]
    deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - RESERVE_SECONDS
    with watched(settings, stage=order["stage"], run_id=order["run_id"], context=context) as watch:
        try:
            return register_state(
                Ledger.of_bucket(settings.need("ledger_bucket")),
                RegisterTable(settings.need("register_table"), lazy("dynamodb", QUICK)),
                event["state"],
                watch.count,
                deadline=deadline,
            )
        except Exception:
            watch.count(Metric.REGISTER_BEHIND)
            raise
