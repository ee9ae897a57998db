"""CloseRun: proves a run that has ended, and sends the alerts that were not delivered. Invoked by EventBridge on any terminal status."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from winnow.alerts.announcer import Announcer
from winnow.metrics.watch import watched
from winnow.register.table import RegisterTable
from winnow.runs.closer import Closer
from winnow.runs.run_ended import RunEnded
from winnow.settings import Settings
from winnow.storage.clients import QUICK, client, lazy
from winnow.storage.ledger import Ledger
from winnow.storage.state_table import DynamoStateTable

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

RESERVE_SECONDS = 60.0
"""Kept back from catching up with the register: alerts and the report come after it."""


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Payload: an event "Step Functions Execution Status Change" of the pipeline's machine."""
    settings = Settings.from_env()
    with watched(settings, context=context) as watch:
        closer = Closer(
            pipeline=settings.pipeline,
            stages=settings.stages,
            ledger=Ledger.of_bucket(settings.need("ledger_bucket")),
            register=RegisterTable(settings.need("register_table"), client("dynamodb", QUICK)),
            state=DynamoStateTable(settings.need("state_table"), client("dynamodb")),
            announcer=Announcer(
                topic_arn=settings.need("alert_topic_arn"), environment=settings.environment, sns=lazy("sns")
            ),
            watch=watch,
            deadline=time.monotonic() + context.get_remaining_time_in_millis() / 1000 - RESERVE_SECONDS,
        )
        return closer.close(RunEnded.from_event(event)).to_payload()
