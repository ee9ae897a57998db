"""What CloudWatch watches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from constructs import Construct

from stacks.constructs.python_function import METRICS_NAMESPACE
from winnow.metrics.metric import Metric

if TYPE_CHECKING:
    from aws_cdk import aws_lambda as lambda_
    from aws_cdk import aws_sqs as sqs
    from aws_cdk import aws_stepfunctions as sfn

    from stacks.constructs.alerts import Alerts
    from stacks.constructs.deployment import Deployment
    from stacks.constructs.publication import Publication
    from stacks.settings import EnvironmentSettings

PERIOD = Duration.minutes(5)


def _counted(metric: Metric, deployment: Deployment, *, period: Duration = PERIOD) -> cloudwatch.IMetric:
    """A count of a whole run, under the dimensions that `winnow.metrics.watch` gives it."""
    return cloudwatch.Metric(
        namespace=METRICS_NAMESPACE,
        metric_name=metric.value,
        dimensions_map=_dimensions(deployment),
        statistic="Sum",
        period=period,
    )


def _dimensions(deployment: Deployment) -> dict[str, str]:
    return {"environment": deployment.settings.environment, "pipeline": deployment.pipeline}


class Monitoring(Construct):
    """Alarms on what no alert of a run's own can tell.

    A run that failed is alerted by the run closer, with what to do about it. Its alarms therefore send no notification: one
    failure, one message. What they do notify of is a way to be told that is itself broken. That goes to the topic for it, whose
    subscribers do not depend on Slack; and to the topic of alerts only where the other one has no subscriber.

    Two alarms notify the topic of alerts, where people hear who can act: that nothing has succeeded for long, which no run can
    say of itself; and that a ledger does not add up, which is worth two messages, as the run closer is the only one else to tell it.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, alerts: Alerts, settings: EnvironmentSettings
    ) -> None:
        super().__init__(scope, construct_id)
        self._notify_people = actions.SnsAction(alerts.topic)
        self._environment = settings.environment
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

    def watch_counts(self, deployment: Deployment) -> None:
        """Alarms on what Winnow counts itself: events that it refused, ledgers that do not add up, and too few successes."""
        self._alarm(
            "RunRefused",
            _counted(Metric.RUN_REFUSED, deployment),
            "An event asked for a run and was refused; StartRun has sent the alert.",
        )
        self._alarm(
            "NotConserved",
            _counted(Metric.CONSERVATION_VIOLATION, deployment),
            "The ledger of a run does not add up: records may be lost in silence. winnow verify RUN says what is wrong; the run "
            "closer's alert names the run.",
        ).add_alarm_action(self._notify_people)
        hours = deployment.settings.no_success_hours
        if hours is not None:
            self._dead_man(deployment, hours)

    def _dead_man(self, deployment: Deployment, hours: int) -> None:
        """Notify when no run succeeds for so long, whatever the reason: also that none was started, or that all of it is gone."""
        cloudwatch.Alarm(
            self,
            "NoSuccess",
            metric=_counted(Metric.RUN_SUCCEEDED, deployment, period=Duration.hours(1)),
            alarm_description=self._titled(
                f"No run of {deployment.pipeline} has succeeded for {hours} hours. Was one started? If it was, its own alert says "
                "why it failed; if not, look at the schedule's rule and at StartRun's dead letters."
            ),
            threshold=1,
            comparison_operator=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            evaluation_periods=hours,
            datapoints_to_alarm=hours,
            # Nothing is counted where nothing runs: no data is the very case that it is for.
            treat_missing_data=cloudwatch.TreatMissingData.BREACHING,
        ).add_alarm_action(self._notify_people)

    def watch_age(self, deployment: Deployment, publication: Publication) -> None:
        """Notify when what is published is too old, once for each limit, with what that means for consumers."""
        for name, hours, word, means in (
            ("Stale", publication.stale_after_hours, "stale", publication.stale_means),
            ("Expired", publication.expired_after_hours, "expired", publication.expired_means),
        ):
            if hours is None:
                continue
            cloudwatch.Alarm(
                self,
                f"Published{name}",
                metric=cloudwatch.Metric(
                    namespace=METRICS_NAMESPACE,
                    metric_name=Metric.PUBLISHED_AGE_SECONDS.value,
                    dimensions_map=_dimensions(deployment),
                    # It is measured every hour, and when a run ends: the youngest is the one that is true now.
                    statistic="Minimum",
                    period=Duration.hours(1),
                ),
                alarm_description=self._titled(
                    f"What {deployment.pipeline} publishes as {publication.name} is {word}: the run that made it began {hours} hours ago or "
                    f"earlier. {means} winnow publish list says which version is current, and whether a hold keeps it; the alerts "
                    "of the runs since say what stopped each."
                ),
                threshold=hours * 3600,
                evaluation_periods=1,
                comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
                # No data: nothing was ever published, or nothing measures it, of which other alarms tell.
                treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            ).add_alarm_action(self._notify_people)

    def watch_errors(self, name: str, function: lambda_.IFunction, description: str) -> None:
        """Notify when a function fails that others depend on to be told of failures."""
        metric = function.metric_errors(period=PERIOD)
        self._alarm(f"{name}Errors", metric, description).add_alarm_action(*self._notify_watchers)

    def watch_dead_letters(self, name: str, queue: sqs.IQueue, description: str) -> None:
        """Notify when anything waits in a dead-letter queue."""
        metric = queue.metric_approximate_number_of_messages_visible(period=PERIOD, statistic="Maximum")
        self._alarm(f"{name}DeadLetters", metric, description).add_alarm_action(*self._notify_watchers)

    def _titled(self, description: str) -> str:
        """With the environment in front, as in the title of an alert: an alarm's name has only that of the stack."""
        return f"[{self._environment}] {description}"

    def _alarm(self, construct_id: str, metric: cloudwatch.IMetric, description: str) -> cloudwatch.Alarm:
        return cloudwatch.Alarm(
            self,
            construct_id,
            metric=metric,
            alarm_description=self._titled(description),
            threshold=1,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            # No data is the good case: nothing failed, nothing waits.
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
