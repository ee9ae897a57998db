"""What starts a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda_event_sources as event_sources
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from stacks.constructs.dead_letters import DeadLetters
from stacks.constructs.python_function import OwnFunction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stacks.constructs.deployment import Deployment
    from stacks.constructs.source_bucket import SourceBucket

EVENT_SOURCE = "winnow"
RUN_REQUESTED = "Run requested"
"""`detail` is what a run is started with; `"pipeline"` and `"environment"` name which pipeline is meant."""

START_RUN_SECONDS = 60
ARRIVALS_PER_RUN = 1000
"""An event is about 1 KB, and Lambda takes 6 MB at once."""
TRIES_OF_AN_ARRIVAL = 5


class Triggers(Construct):
    """StartRun, and whatever calls it: a custom event, a schedule, objects that arrive.

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
        self.dead_letters: sqs.IQueue = DeadLetters(self, "DeadLetters")
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
            self._start_on_arrival(source, window=Duration.seconds(settings.arrivals_window_seconds))

    def _start_on_arrival(self, source: SourceBucket, *, window: Duration) -> None:
        """A queue gathers what arrives together, so that a thousand files make one run and not a thousand."""
        arrivals = sqs.Queue(
            self,
            "Arrivals",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            # AWS asks for six times the function's timeout, and the window on top.
            visibility_timeout=Duration.seconds(6 * START_RUN_SECONDS + window.to_seconds()),
            dead_letter_queue=sqs.DeadLetterQueue(
                queue=self.dead_letters, max_receive_count=TRIES_OF_AN_ARRIVAL
            ),
        )
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
                batch_size=ARRIVALS_PER_RUN,
                max_batching_window=window,
                report_batch_item_failures=True,
            )
        )
