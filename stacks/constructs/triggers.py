"""What starts a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda_event_sources as event_sources
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from stacks.constructs.dead_letters import DeadLetters
from stacks.constructs.python_function import OwnFunction, winnow_variables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stacks.constructs.deployment import Deployment
    from stacks.constructs.source_bucket import SourceBucket

EVENT_SOURCE = "winnow"
RUN_REQUESTED = "Run requested"
"""`detail` is what a run is started with; `"pipeline"` and `"environment"` name which pipeline is meant."""

START_RUN_SECONDS = 60
ARRIVALS_AT_ONCE = 1000
"""An event is about 1 KB, and Lambda takes 6 MB at once."""
GATHERING_SECONDS = 5
"""How long Lambda's pollers wait for more arrivals. Each of them waits by itself, so this is no window, and short."""
GATHERERS = 10
"""StartRuns that gather at once. All of them write to the item of one window, and DynamoDB takes 1,000 KB of one item in a second."""
TRIES_OF_A_MESSAGE = 5
CLOSE_WINDOW_SECONDS = 120
CLOSE_WINDOW_MEMORY_MB = 1024
"""More than half a processor: 20,000 objects are claimed one by one."""


class Triggers(Construct):
    """StartRun, and whatever calls it: a custom event, a schedule, objects that arrive; and CloseWindow, which starts their run.

    All of them deliver at least once; every event has an id, by which StartRun knows a delivery that it took before.
    That is why the schedule is a rule and not EventBridge Scheduler, which has none to give.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        variables: Mapping[str, str],
        source: SourceBucket,
    ) -> None:
        super().__init__(scope, construct_id)
        settings = deployment.settings
        self._deployment = deployment
        self._variables = variables
        self.dead_letters: sqs.IQueue = DeadLetters(self, "DeadLetters")
        self.close_window: OwnFunction | None = None
        """Only where objects that arrive start runs."""
        self.start_run = OwnFunction(
            self,
            "StartRun",
            deployment=deployment,
            name="start_run",
            timeout_seconds=START_RUN_SECONDS,
            variables=variables,
            dead_letter_queue=self.dead_letters,
        )
        self._target = targets.LambdaFunction(self.start_run.function, dead_letter_queue=self.dead_letters)
        events.Rule(
            self,
            "RunRequested",
            description=f"A run of {deployment.pipeline} is asked for",
            event_pattern=events.EventPattern(
                source=[EVENT_SOURCE],
                detail_type=[RUN_REQUESTED],
                detail={
                    "pipeline": [deployment.pipeline],
                    # StartRun refuses an event that names none; no rule would tell anybody of it.
                    "environment": [settings.environment, {"exists": False}],
                },
            ),
            targets=[self._target],
        )
        if settings.schedule:
            events.Rule(
                self,
                "Schedule",
                description=f"A run of {deployment.pipeline} is due",
                schedule=events.Schedule.expression(settings.schedule),
                targets=[self._target],
            )
        if settings.arrivals_window_seconds:
            self._start_on_arrival(source, window_seconds=settings.arrivals_window_seconds)

    def _start_on_arrival(self, source: SourceBucket, *, window_seconds: int) -> None:
        """A thousand files that arrive within a window make one run and not a thousand.

        StartRun gathers them, and a second queue, which holds messages back, brings the end of the window.
        """
        gathering_seconds = min(window_seconds, GATHERING_SECONDS)
        windows = self._queue("Windows", function_seconds=CLOSE_WINDOW_SECONDS)
        variables = {
            "window_queue_url": windows.queue_url,
            # What arrives in the window's last second is still on its way then.
            "window_seconds": str(window_seconds + gathering_seconds),
        }
        self.close_window = OwnFunction(
            self,
            "CloseWindow",
            deployment=self._deployment,
            name="close_window",
            timeout_seconds=CLOSE_WINDOW_SECONDS,
            memory_mb=CLOSE_WINDOW_MEMORY_MB,
            variables={**self._variables, **variables},
        )
        for name, value in winnow_variables(variables).items():
            self.start_run.function.add_environment(name, value)
        for function in (self.start_run.function, self.close_window.function):
            iam.Grant.add_to_principal(
                grantee=function, actions=["sqs:SendMessage"], resource_arns=[windows.queue_arn]
            )
        # One window at a time, so that its time is all its own.
        self.close_window.function.add_event_source(
            event_sources.SqsEventSource(windows, batch_size=1, report_batch_item_failures=True)
        )
        arrivals = self._queue("Arrivals", function_seconds=START_RUN_SECONDS, wait_seconds=gathering_seconds)
        events.Rule(
            self,
            "ObjectCreated",
            description=f"An object arrived in the source bucket, under {source.prefix or 'any prefix'}",
            event_pattern=events.EventPattern(
                source=["aws.s3"],
                detail_type=["Object Created"],
                detail={
                    "bucket": {"name": [source.bucket.bucket_name]},
                    **({"object": {"key": [{"prefix": source.prefix}]}} if source.prefix else {}),
                },
            ),
            targets=[targets.SqsQueue(arrivals, dead_letter_queue=self.dead_letters)],
        )
        self.start_run.function.add_event_source(
            event_sources.SqsEventSource(
                arrivals,
                batch_size=ARRIVALS_AT_ONCE,
                max_batching_window=Duration.seconds(gathering_seconds),
                max_concurrency=GATHERERS,
                report_batch_item_failures=True,
            )
        )

    def _queue(self, construct_id: str, *, function_seconds: int, wait_seconds: int = 0) -> sqs.Queue:
        return sqs.Queue(
            self,
            construct_id,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            # AWS asks for six times the function's timeout, and the wait for more messages on top.
            visibility_timeout=Duration.seconds(6 * function_seconds + wait_seconds),
            dead_letter_queue=sqs.DeadLetterQueue(
                queue=self.dead_letters, max_receive_count=TRIES_OF_A_MESSAGE
            ),
        )
