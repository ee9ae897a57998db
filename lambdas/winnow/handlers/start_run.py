"""StartRun: custom events and the schedule from EventBridge, and the queue of objects that arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from winnow.metrics.watch import watched
from winnow.runs.gathering import ArrivalMessages, Gatherer, Message
from winnow.runs.starter import Starter
from winnow.settings import Settings
from winnow.storage.arrival_windows import DynamoArrivalWindows
from winnow.storage.clients import client, lazy
from winnow.storage.executions import StepFunctions
from winnow.storage.ledger import Ledger
from winnow.storage.state_table import DynamoStateTable
from winnow.storage.store import S3Store
from winnow.storage.window_queue import SqsWindowQueue

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from winnow.core.errors import StageInputError
    from winnow.metrics.watch import Watch


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Returns `{"run_id"}` for one event, SQS's partial batch response for a batch of messages."""
    settings = Settings.from_env()
    with watched(settings, context=context) as watch:
        if _is_batch(event):
            again = _arrivals(settings, watch).take(
                [Message.from_record(record) for record in event["Records"]]
            )
            return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in again]}
        return {"run_id": _starter(settings, watch).on_event(event)}


def _is_batch(event: dict[str, Any]) -> bool:
    records = event.get("Records")
    return isinstance(records, list) and all(record.get("eventSource") == "aws:sqs" for record in records)


def _arrivals(settings: Settings, watch: Watch) -> ArrivalMessages:
    gatherer = Gatherer(
        ledger=Ledger(S3Store(settings.need("ledger_bucket"), client("s3"))),
        windows=DynamoArrivalWindows(
            settings.need("state_table"), client("dynamodb"), pipeline=settings.pipeline
        ),
        # Only who opens or fills a window sends.
        queue=SqsWindowQueue(settings.need("window_queue_url"), lazy("sqs")),
        window_seconds=settings.window_seconds,
    )
    return ArrivalMessages(
        source_bucket=settings.need("source_bucket"),
        source_prefix=settings.source_prefix,
        gatherer=gatherer,
        watch=watch,
    )


def _starter(settings: Settings, watch: Watch) -> Starter:
    def alert_refusal(event: object, error: StageInputError) -> None:
        # Only here: an ordinary start does not wait for the alerts to load.
        from winnow.alerts.announcer import Announcer  # noqa: PLC0415
        from winnow.runs.refusal_alerts import RefusalAlerts  # noqa: PLC0415

        announcer = Announcer(
            topic_arn=settings.need("alert_topic_arn"), environment=settings.environment, sns=client("sns")
        )
        state = DynamoStateTable(settings.need("state_table"), client("dynamodb"))
        alerts = RefusalAlerts(pipeline=settings.pipeline, state=state, announcer=announcer, watch=watch)
        alerts.send(event, error)

    return Starter(
        pipeline=settings.pipeline,
        environment=settings.need("environment"),
        stages=settings.stages,
        source_prefix=settings.source_prefix,
        ledger=Ledger(S3Store(settings.need("ledger_bucket"), lazy("s3"))),
        executions=StepFunctions(
            machine_arn=settings.need("pipeline_arn"), stepfunctions=client("stepfunctions")
        ),
        watch=watch,
        alert_refusal=alert_refusal,
    )
