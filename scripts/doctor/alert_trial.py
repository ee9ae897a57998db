"""A test alert, sent the way that real ones go, and what is known of its arrival."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from scripts.doctor.alerting import ALERTS, TOPICS, Subscription, TopicOfAlerts, nobody_hears, subscriptions
from scripts.doctor.context import DoctorContext
from scripts.doctor.examination import DENIED, error_code, missing_permission
from scripts.doctor.finding import Finding
from winnow.alerts.announcer import Announcer
from winnow.alerts.content import AlertContent, Event, Severity, clean
from winnow.metrics.metric import Metric

WAIT_SECONDS = 90
"""The Slack function's own patience is a minute; then Lambda calls it again, and what it then finds is another story."""
POLL_SECONDS = 2
CLOCKS_APART_SECONDS = 300
"""The log is searched from so long before the alert: this machine's clock need not be AWS's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What became of the test alert at one subscriber."""

    subscriber: str
    """What the topic is for, and `Slack`, an e-mail address, or the protocol; the topic alone where it has no subscriber."""
    finding: Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class _Audience:
    """Who subscribed to one topic."""

    topic: TopicOfAlerts
    arn: str
    subscribers: tuple[Subscription, ...]

    @property
    def names(self) -> list[str]:
        """Of the subscribers, for people."""
        return [f"{self.topic.purpose}: {each}" for each in self.subscribers] or [self.topic.purpose]


class AlertTrial:
    """Publishes a test alert on each topic of a deployed pipeline, and follows it as far as that can be seen."""

    def __init__(
        self,
        context: DoctorContext,
        *,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Find out who subscribed.

        Raises:
            NotExamined: the pipeline is not deployed.
            ClientError: SNS refuses to tell.
        """
        self._context = context
        self._sleep = sleep
        self._monotonic = monotonic
        outputs, self._sns = context.stack().outputs, context.client("sns")
        self._audiences = [
            _Audience(
                topic=topic,
                arn=outputs[topic.output],
                subscribers=tuple(subscriptions(self._sns, outputs[topic.output])),
            )
            for topic in TOPICS
            if topic.output in outputs
        ]

    def subscribers(self) -> list[str]:
        """All names that arrivals will have."""
        return [name for audience in self._audiences for name in audience.names]

    def arrivals(self) -> Iterator[Arrival]:
        """Send it, and tell subscriber by subscriber whether it arrived: at most a minute and a half for each topic.

        Raises:
            ClientError: SNS refuses it.
        """
        for audience in self._audiences:
            if not audience.subscribers:
                yield Arrival(subscriber=audience.names[0], finding=self._nobody(audience.topic))
                continue
            since = self._context.clock() - CLOCKS_APART_SECONDS
            message_id = self._publish(audience.arn)
            for name, each in zip(audience.names, audience.subscribers, strict=True):
                yield Arrival(subscriber=name, finding=self._arrival(each, message_id, since))

    def _nobody(self, topic: TopicOfAlerts) -> Finding:
        remedy = f"Name somebody in cdk.json ({topic.fields}) and deploy."
        if topic is ALERTS:
            return Finding.failed("nobody subscribed", remedy)
        return nobody_hears(self._context, topic, "nobody subscribed", remedy)

    def _publish(self, topic: str) -> str:
        stack = self._context.stack()
        content = AlertContent(
            severity=Severity.ERROR,
            verdict=Event.TEST.value,
            pipeline=stack.pipeline,
            run_id="",
            cause=f"winnow alert test, by {self._context.identity().arn}",
        )
        announcer = Announcer(topic_arn=topic, environment=stack.environment, sns=self._sns)
        return announcer.announce(content, execution="")

    def _arrival(self, subscriber: Subscription, message_id: str, since: float) -> Finding:
        if subscriber.is_pending:
            return Finding.warning(
                "the subscription is not confirmed, so nothing is sent there",
                "Confirm it by the link in the message that SNS sent.",
            )
        if subscriber.protocol != "lambda":
            return Finding.ok("SNS has taken it, and sends it; whether it was read only the reader knows")
        try:
            return self._await_log(subscriber.endpoint, message_id, since)
        except ClientError as error:
            if error_code(error) not in DENIED:
                raise
            return Finding.warning(
                f"sent; whether it arrived cannot be seen: you lack the permission {missing_permission(error)}",
                "Look into the channel.",
            )

    def _await_log(self, function: str, message_id: str, since: float) -> Finding:
        """Follow the function's log until it names the message."""
        group = self._log_group(function)
        logs = self._context.client("logs")
        started = self._monotonic()
        while (waited := self._monotonic() - started) < WAIT_SECONDS:
            for line in _lines(logs, group, message_id, since):
                if Metric.SLACK_DELIVERED.value in line:
                    return Finding.ok(f"arrived after {waited:.0f} s")
                if reason := _reason(line, message_id):
                    return Finding.failed(
                        f"did not arrive: {reason}",
                        "It is tried twice more, and then waits in the dead-letter queue. The whole story:",
                        f"aws logs tail {group} --since 10m",
                    )
            self._sleep(POLL_SECONDS)
        return Finding.failed(
            f"was not seen to arrive within {WAIT_SECONDS} s",
            "See whether the function was called, and what it says:",
            f"aws logs tail {group} --since 10m",
        )

    def _log_group(self, function: str) -> str:
        found = self._context.client("lambda").get_function_configuration(FunctionName=function)
        named: str = found.get("LoggingConfig", {}).get("LogGroup", "")
        return named or f"/aws/lambda/{found['FunctionName']}"


def _lines(logs: Any, group: str, message_id: str, since: float) -> Iterator[str]:
    """Lines of a log that name a message."""
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=group, startTime=int(since * 1000), filterPattern=f'"{message_id}"'
    )
    for page in pages:
        yield from (event["message"] for event in page["events"] if message_id in event["message"])


def _reason(line: str, message_id: str) -> str | None:
    """Why the function could not deliver the message, from one of its log lines; None where it does not say."""
    try:
        said = str(json.loads(line)["message"])
    except (ValueError, KeyError, TypeError):
        said = line
    found = re.search(rf"{re.escape(message_id)}: (.+)", said)
    return clean(found[1], 300) if found else None
