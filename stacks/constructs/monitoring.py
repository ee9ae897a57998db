"""What CloudWatch watches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from constructs import Construct

if TYPE_CHECKING:
    from aws_cdk import aws_lambda as lambda_
    from aws_cdk import aws_sqs as sqs
    from aws_cdk import aws_stepfunctions as sfn

    from stacks.constructs.alerts import Alerts
    from stacks.settings import EnvironmentSettings

PERIOD = Duration.minutes(5)


class Monitoring(Construct):
    """Alarms on what no alert of a run's own can tell.

    A run that failed is alerted by the run closer, with what to do about it. Its alarms therefore send no notification: one
    failure, one message. What they do notify of is a way to be told that is itself broken. That goes to the topic for it, whose
    subscribers do not depend on Slack; and to the topic of alerts only where the other one has no subscriber.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, alerts: Alerts, settings: EnvironmentSettings
    ) -> None:
        super().__init__(scope, construct_id)
        self._notify_watchers = [actions.SnsAction(alerts.watch_topic)]
        if not settings.watchers:
            self._notify_watchers.append(actions.SnsAction(alerts.topic))

    def watch_runs(self, machine: sfn.IStateMachine) -> None:
        """Alarms for runs that did not succeed."""
        for status, metric in {
            "Failed": machine.metric_failed(period=PERIOD),
            "TimedOut": machine.metric_timed_out(period=PERIOD),
            "Aborted": machine.metric_aborted(period=PERIOD),
        }.items():
            self._alarm(
                f"Run{status}", metric, f"A run ended as {status}; the run closer has sent the alert."
            )

    def watch_errors(self, name: str, function: lambda_.IFunction, description: str) -> None:
        """Notify when a function fails that others depend on to be told of failures."""
        metric = function.metric_errors(period=PERIOD)
        self._alarm(f"{name}Errors", metric, description).add_alarm_action(*self._notify_watchers)

    def watch_dead_letters(self, name: str, queue: sqs.IQueue, description: str) -> None:
        """Notify when anything waits in a dead-letter queue."""
        metric = queue.metric_approximate_number_of_messages_visible(period=PERIOD, statistic="Maximum")
        self._alarm(f"{name}DeadLetters", metric, description).add_alarm_action(*self._notify_watchers)

    def _alarm(self, construct_id: str, metric: cloudwatch.IMetric, description: str) -> cloudwatch.Alarm:
        return cloudwatch.Alarm(
            self,
            construct_id,
            metric=metric,
            alarm_description=description,
            threshold=1,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            # No data is the good case: nothing failed, nothing waits.
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
