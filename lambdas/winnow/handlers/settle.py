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
        if "nested_error" in event["state"]:
            _stop_overtaken(event)
        return settle(Ledger.of_bucket(settings.need("ledger_bucket")), event["state"], watch.count)


def _stop_overtaken(event: dict[str, Any]) -> None:
    # Imported here: hardly any attempt ends so, and no other one's cold start need load it.
    from winnow.settlement.overtaken import stop_overtaken  # noqa: PLC0415
    from winnow.storage.clients import QUICK, lazy  # noqa: PLC0415
    from winnow.storage.executions import StepFunctions  # noqa: PLC0415

    executions = StepFunctions.of(event["execution"], lazy("stepfunctions", QUICK))
    stop_overtaken(executions, event["state"], event["execution"])
