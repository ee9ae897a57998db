"""Plan: fix the batch of a stage run, and order its attempt."""

from __future__ import annotations

from typing import Any

from winnow.core.contract import Policy, StageInput
from winnow.metrics.watch import watched
from winnow.planning.stage_planner import continue_stage, plan_stage
from winnow.settings import Settings
from winnow.storage.ledger import Ledger


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda entry point; the payload is the stage machine's (`input`, `execution`, `stage`, `policy`)."""
    settings = Settings.from_env()
    with watched(settings, stage=event["stage"], context=context) as watch:
        ledger = Ledger.of_bucket(settings.need("ledger_bucket"))
        policy = Policy.from_event(event["policy"])
        where: dict[str, Any] = {
            "pipeline": settings.pipeline,
            "stage": event["stage"],
            "policy": policy,
            "execution": event["execution"],
        }
        given = event["input"]
        if isinstance(given, dict) and "plan" in given:
            order = continue_stage(ledger, given, **where)
        else:
            order = plan_stage(ledger, StageInput.from_event(given), **where)
        watch.identify(run_id=order.run_id, stage=order.stage)
        return order.to_payload()
