"""CloseWindow: the queue of windows of arrivals whose time is over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from winnow.core.errors import StageInputError
from winnow.metrics.watch import Metric, get_logger, watched
from winnow.runs.gathering import Gatherer, Message
from winnow.runs.window_closer import WindowCloser
from winnow.settings import Settings
from winnow.storage.arrival_windows import DynamoArrivalWindows, WindowIsBeingClosed
from winnow.storage.clients import QUICK, client, lazy
from winnow.storage.executions import StepFunctions
from winnow.storage.ledger import Ledger
from winnow.storage.state_table import DynamoStateTable
from winnow.storage.store import S3Store
from winnow.storage.upload_claims import DynamoUploadClaims
from winnow.storage.window_queue import SqsWindowQueue, window_of

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from winnow.metrics.watch import Watch


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Returns SQS's partial batch response."""
    settings = Settings.from_env()
    with watched(settings, context=context) as watch:
        dead_at = time.time() + context.get_remaining_time_in_millis() / 1000
        closer = _closer(settings, watch)
        again = [
            message.message_id
            for message in map(Message.from_record, event["Records"])
            if not _close(message, closer, watch, dead_at=dead_at)
        ]
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in again]}


def _close(message: Message, closer: WindowCloser, watch: Watch, *, dead_at: float) -> bool:
    """False where the message is to come again."""
    try:
        closer.close(window_of(message.body), dead_at=dead_at)
    except StageInputError as error:
        get_logger().error(f"message refused: {error}", message_id=message.message_id)
        watch.count(Metric.RUN_REFUSED)
        return False
    except WindowIsBeingClosed as error:
        get_logger().info(f"{error}; the message comes again")
        return False
    return True


def _closer(settings: Settings, watch: Watch) -> WindowCloser:
    table, dynamodb = settings.need("state_table"), client("dynamodb", QUICK)
    ledger = Ledger(S3Store(settings.need("ledger_bucket"), client("s3")))
    windows = DynamoArrivalWindows(table, dynamodb, pipeline=settings.pipeline)
    return WindowCloser(
        stages=settings.stages,
        source_prefix=settings.source_prefix,
        ledger=ledger,
        state=DynamoStateTable(table, dynamodb),
        windows=windows,
        uploads=DynamoUploadClaims(table, dynamodb),
        gatherer=Gatherer(
            ledger=ledger,
            windows=windows,
            queue=SqsWindowQueue(settings.need("window_queue_url"), lazy("sqs")),
            window_seconds=settings.window_seconds,
        ),
        executions=StepFunctions(
            machine_arn=settings.need("pipeline_arn"), stepfunctions=client("stepfunctions")
        ),
        watch=watch,
    )
