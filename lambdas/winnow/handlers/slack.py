"""Slack: what is published on the alert topic, posted to a channel. Invoked by SNS."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Any

from winnow.alerts.slack import Courier, Notification, Webhook
from winnow.metrics.watch import Metric, watched
from winnow.settings import Settings
from winnow.storage.clients import client

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

RESERVE_SECONDS = 2.0
"""Kept back from the Lambda's time to report a failure in an orderly way."""


@cache
def _courier(secret_arn: str) -> Courier:
    return Courier(Webhook(secret_arn=secret_arn, secrets=client("secretsmanager")))


def handler(event: dict[str, Any], context: LambdaContext) -> None:
    """Deliver; an alert that cannot be delivered raises, so that it is tried again and ends in the dead-letter queue."""
    settings = Settings.from_env()
    with watched(settings, context=context) as watch:
        notifications = [Notification.from_record(record) for record in event["Records"]]
        deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - RESERVE_SECONDS
        try:
            sent = _courier(settings.need("slack_secret_arn")).deliver(notifications, deadline=deadline)
        except Exception:
            watch.count(Metric.SLACK_FAILED)
            raise
        watch.count(Metric.SLACK_DELIVERED, sent)
        # By which `winnow alert test` finds its message in this function's log.
        watch.note(message_ids=[notification.message_id for notification in notifications])
