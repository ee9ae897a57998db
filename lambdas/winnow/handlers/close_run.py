"""CloseRun: proves a run that has ended and says what nobody has said yet. Invoked by EventBridge on any terminal status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from winnow.announce import Announcer
from winnow.clients import client, lazy
from winnow.close import Closer, RunEnded
from winnow.ledger import Ledger
from winnow.observability import watched
from winnow.settings import Settings
from winnow.state_table import DynamoStateTable

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Payload: an event "Step Functions Execution Status Change" of the pipeline's machine."""
    settings = Settings.from_env()
    with watched(settings, context=context) as watch:
        closer = Closer(
            pipeline=settings.pipeline,
            ledger=Ledger.of_bucket(settings.need("ledger_bucket")),
            state=DynamoStateTable(settings.need("state_table"), client("dynamodb")),
            announcer=Announcer(
                topic_arn=settings.need("alert_topic_arn"), environment=settings.environment, sns=lazy("sns")
            ),
            watch=watch,
        )
        return closer.close(RunEnded.from_event(event)).to_payload()
