"""PlanRun: names a run and finds its records. First state of the pipeline machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from winnow.metrics.watch import Metric, get_logger, watched
from winnow.runs.request import RunRequest
from winnow.runs.run_planner import Execution, RunPlanner
from winnow.settings import Settings
from winnow.storage.clients import client, lazy
from winnow.storage.executions import StepFunctions
from winnow.storage.ledger import Ledger
from winnow.storage.listing import RESERVE_SECONDS, S3SourceListing
from winnow.storage.state_table import DynamoStateTable

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Payload: `{"input", "execution", "name"}`. A malformed input, or a source that is too large to list, fails with `StageInputError`."""
    settings = Settings.from_env()
    deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - RESERVE_SECONDS
    with watched(settings, context=context) as watch:
        request = RunRequest.from_event(
            event["input"], stages=settings.stages, source_prefix=settings.source_prefix
        )
        execution = Execution.from_event(event)
        planner = RunPlanner(
            pipeline=settings.pipeline,
            stages=settings.stages,
            ledger=Ledger.of_bucket(settings.need("ledger_bucket")),
            source=S3SourceListing(settings.need("source_bucket"), client("s3"), deadline=deadline),
            state=DynamoStateTable(settings.need("state_table"), lazy("dynamodb")),
            executions=StepFunctions.of(execution.arn, lazy("stepfunctions")),
        )
        plan = planner.plan(request, execution)
        watch.identify(run_id=plan.run_id)
        if plan.reason:
            watch.count(Metric.RUN_STEPPED_ASIDE)
            get_logger().warning("scheduled run steps aside", reason=plan.reason)
        return plan.to_payload()
