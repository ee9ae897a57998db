"""CloseRun: proves a run that has ended, and sends the alerts that were not delivered.

Invoked by EventBridge on any terminal status, and every hour to close the runs of which no such event came.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from winnow.alerts.announcer import Announcer
from winnow.metrics.watch import Metric, get_logger, watched
from winnow.publish.published_set import PublishedSet
from winnow.register.table import RegisterTable
from winnow.runs.closer import Closer
from winnow.runs.published_by_run import age_of_published
from winnow.runs.run_ended import RunEnded
from winnow.settings import Settings
from winnow.storage.clients import QUICK, client, lazy
from winnow.storage.ledger import Ledger
from winnow.storage.published_store import published_store
from winnow.storage.state_table import DynamoStateTable

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from winnow.metrics.watch import Watch

RESERVE_SECONDS = 60.0
"""Kept back from catching up with the register: alerts and the report come after it."""
SWEEP_RESERVE_SECONDS = 300.0
"""A sweep begins to close no further run in the last five minutes of its time: closing one may take as long."""


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Payload: an event "Step Functions Execution Status Change" of the pipeline's machine, or `{"sweep": true}`.

    `older_than_seconds` beside `sweep` leaves runs to their event for another time than ten minutes.
    """
    settings = Settings.from_env()
    with watched(settings, context=context) as watch:
        if event.get("sweep"):
            return _sweep(settings, context, watch, event.get("older_than_seconds"))
        return _closer(settings, context, watch).close(RunEnded.from_event(event)).to_payload()


def _sweep(settings: Settings, context: LambdaContext, watch: Watch, older_than: object) -> dict[str, Any]:
    # Imported here: a run that ended does not wait for it.
    from winnow.runs.sweeper import Sweeper, leave_to_event  # noqa: PLC0415
    from winnow.storage.executions import StepFunctions  # noqa: PLC0415

    # First: a sweep that could not close a run raises.
    _measure_age(settings, watch)

    def close(ended: RunEnded) -> None:
        # With metrics of its own: the durations of two runs are not to be added up.
        with watched(settings, context=context) as watch_of_run:
            _closer(settings, context, watch_of_run).close(ended)

    sweeper = Sweeper(
        executions=StepFunctions(
            machine_arn=settings.need("pipeline_arn"), stepfunctions=client("stepfunctions")
        ),
        state=_state(settings),
        close=close,
        watch=watch,
        leave_to_event=leave_to_event(older_than),
        deadline=_end_of_time(context) - SWEEP_RESERVE_SECONDS,
    )
    return sweeper.sweep().to_payload()


def _closer(settings: Settings, context: LambdaContext, watch: Watch) -> Closer:
    return Closer(
        pipeline=settings.pipeline,
        stages=settings.stages,
        ledger=Ledger.of_bucket(settings.need("ledger_bucket")),
        register=RegisterTable(settings.need("register_table"), client("dynamodb", QUICK)),
        state=_state(settings),
        announcer=Announcer(
            topic_arn=settings.need("alert_topic_arn"), environment=settings.environment, sns=lazy("sns")
        ),
        watch=watch,
        published=_published(settings),
        deadline=_end_of_time(context) - RESERVE_SECONDS,
    )


def _measure_age(settings: Settings, watch: Watch) -> None:
    """Emit the age of what is published, if anything was."""
    published = _published(settings)
    if not published:
        return
    try:
        age = age_of_published(published, datetime.now(UTC))
    except Exception as error:  # noqa: BLE001  a pointer that cannot be read does not keep runs from being closed (law 6)
        get_logger().exception("the age of what is published could not be measured", error=str(error))
        watch.count(Metric.WATCHING_FAILED)
    else:
        if age is not None:
            watch.count(Metric.PUBLISHED_AGE_SECONDS, age)


def _published(settings: Settings) -> PublishedSet | None:
    """What the pipeline publishes; None where it publishes nothing."""
    if not settings.publication:
        return None
    return PublishedSet(published_store(settings.need("published_bucket")), settings.publication)


def _state(settings: Settings) -> DynamoStateTable:
    return DynamoStateTable(settings.need("state_table"), client("dynamodb"))


def _end_of_time(context: LambdaContext) -> float:
    """When Lambda ends this invocation, by `time.monotonic`."""
    return time.monotonic() + context.get_remaining_time_in_millis() / 1000
