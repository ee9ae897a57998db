"""Checks of whether people would hear: the webhook's secret, and who subscribed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from scripts.doctor.check import CheckGroup, check
from scripts.doctor.context import DoctorContext
from scripts.doctor.examination import error_code
from scripts.doctor.finding import Finding, NotExamined
from winnow.alerts.slack import SlackError, webhook_url

SLACK_HOST = "hooks.slack.com"
SLACK_PATH = "/services/"
"""Of an incoming webhook. A workflow's trigger has another, and takes no message of ours."""
PLACEHOLDERS = ("…", "...")
"""What stands for the rest of the address where documents show it."""
ADDRESS_FILE = "webhook.txt"
SAVE_ADDRESS = (
    f"Save the webhook's address, as Slack shows it, in {ADDRESS_FILE}, so that no shell remembers it;"
)
SHOWN_CHARS = 4
"""Of a webhook's address: enough to tell two apart, and of no use to post with."""
PENDING = "PendingConfirmation"
DELETED = "Deleted"
"""What SNS gives in place of an ARN; the second for a few days after somebody has left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicOfAlerts:
    """A topic that a pipeline publishes on."""

    purpose: str
    """For people."""
    output: str
    """The stack's output that has its ARN."""
    unheard: str
    """What it means that nobody hears."""
    fields: str
    """Of cdk.json, which say who hears."""


ALERTS = TopicOfAlerts(
    purpose="alerts",
    output="AlertTopicArn",
    unheard="nobody would hear of failures",
    fields="alert_emails, slack_webhook_secret",
)
WATCHING = TopicOfAlerts(
    purpose="watching",
    output="WatchTopicArn",
    unheard="nobody would hear when alerting itself is broken",
    fields="alert_emails, watch_emails",
)
TOPICS = (ALERTS, WATCHING)


def nobody_hears(context: DoctorContext, topic: TopicOfAlerts, said: str, remedy: str) -> Finding:
    """The finding for a topic without anybody who confirmed: a failure where the environment asks to confirm changes.

    No e-mail leaves an emulator, so there nobody has to hear that alerting is broken.
    """
    if topic is WATCHING and context.target.is_local:
        return Finding.ok(f"{said}; no e-mail leaves the emulator")
    must = context.stack().outputs.get("ConfirmChanges") == "true"
    return (Finding.failed if must else Finding.warning)(f"{topic.unheard} ({said})", remedy)


@check("slack secret", CheckGroup.ACCOUNT)
def slack_secret(context: DoctorContext) -> Finding:
    """The secret that the settings name holds the address of a webhook."""
    name = context.settings().slack_webhook_secret
    if not name:
        return Finding.ok("cdk.json names none (slack_webhook_secret), so alerts do not go to Slack")
    try:
        answer = context.client("secretsmanager").get_secret_value(SecretId=name)
    except ClientError as error:
        if error_code(error) == "ResourceNotFoundException":
            return Finding.failed(
                f"there is no secret {name}",
                f"{SAVE_ADDRESS} make the secret, and delete the file:",
                f"aws secretsmanager create-secret --name {name} --secret-string file://{ADDRESS_FILE}",
            )
        if error_code(error) == "InvalidRequestException":
            return Finding.failed(
                f"secret {name} is marked for deletion",
                "Keep it:",
                f"aws secretsmanager restore-secret --secret-id {name}",
            )
        raise
    put = f"aws secretsmanager put-secret-value --secret-id {name} --secret-string file://{ADDRESS_FILE}"
    try:
        url = webhook_url(answer.get("SecretString", ""), name)
    except SlackError:
        return Finding.failed(
            f"secret {name} holds no address of a webhook",
            f"{SAVE_ADDRESS} put it in, and delete the file:",
            put,
        )
    if url.endswith((*PLACEHOLDERS, SLACK_PATH)):
        return Finding.failed(
            f"secret {name} holds only the beginning of an address",
            f"{SAVE_ADDRESS} put it in, and delete the file:",
            put,
        )
    parts = urlsplit(url)
    said = f"secret {name} holds a webhook of {parts.hostname}, ending in …{url[-SHOWN_CHARS:]}"
    is_slacks = parts.hostname == SLACK_HOST and parts.path.startswith(SLACK_PATH)
    if not is_slacks and not context.target.is_local:
        return Finding.warning(
            f"{said}; Slack's incoming webhooks begin with https://{SLACK_HOST}{SLACK_PATH}",
            f"If it is not meant to be another: {SAVE_ADDRESS[0].lower()}{SAVE_ADDRESS[1:]} put it in, and delete the file:",
            put,
        )
    return Finding.ok(said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Who hears of what is published on a topic."""

    arn: str
    protocol: str
    endpoint: str

    @classmethod
    def from_description(cls, described: Mapping[str, Any]) -> Self:
        """Read one of ListSubscriptionsByTopic's answers."""
        return cls(
            arn=described["SubscriptionArn"], protocol=described["Protocol"], endpoint=described["Endpoint"]
        )

    @property
    def is_pending(self) -> bool:
        """Whether it has yet to be confirmed."""
        return self.arn == PENDING

    def __str__(self) -> str:
        """For people: an e-mail address, or what else it is."""
        if self.protocol.startswith("email"):
            return self.endpoint
        return "Slack" if self.protocol == "lambda" else self.protocol


def subscriptions(sns: Any, topic: str) -> list[Subscription]:
    """Who subscribed to a topic, confirmed or not."""
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    found = (Subscription.from_description(each) for page in pages for each in page["Subscriptions"])
    return [each for each in found if each.arn != DELETED]


@check("subscriptions", CheckGroup.DEPLOYED)
def subscribed(context: DoctorContext) -> Finding:
    """Each topic of alerts has somebody who hears."""
    outputs = context.stack().outputs
    sns = context.client("sns")
    found = {each: subscriptions(sns, outputs[each.output]) for each in TOPICS if each.output in outputs}
    said = "; ".join(f"{topic.purpose}: {_told(subscribers)}" for topic, subscribers in found.items())
    pending = [
        (outputs[topic.output], each)
        for topic, subscribers in found.items()
        for each in subscribers
        if each.is_pending
    ]
    ask = f"Confirm: {_ask(pending)}." if pending else ""
    for topic, subscribers in found.items():
        if all(each.is_pending for each in subscribers):
            remedy = f"{ask} Name somebody in cdk.json ({topic.fields}) and deploy.".strip()
            return nobody_hears(context, topic, said, remedy)
    if pending:
        return Finding.warning(said, ask, _subscribe_again(*pending[0]))
    left_out = _not_subscribed(context, found)
    if left_out:
        return Finding.warning(
            f"{said}; cdk.json names {', '.join(left_out)}, who did not subscribe",
            "Deploy again, or ask them.",
        )
    return Finding.ok(said)


def _told(subscribers: list[Subscription]) -> str:
    return (
        ", ".join(f"{each}{' (not confirmed)' if each.is_pending else ''}" for each in subscribers)
        or "nobody"
    )


def _ask(pending: Sequence[tuple[str, Subscription]]) -> str:
    asked = ", ".join(dict.fromkeys(each.endpoint for _, each in pending))
    return f"{asked} got a message with a link that is good for three days"


def _subscribe_again(topic: str, subscriber: Subscription) -> str:
    """The command that has SNS send the message once more."""
    return (
        f"aws sns subscribe --topic-arn {topic} "
        f"--protocol {subscriber.protocol} --notification-endpoint {subscriber.endpoint}"
    )


def _not_subscribed(context: DoctorContext, found: Mapping[TopicOfAlerts, list[Subscription]]) -> list[str]:
    """Who cdk.json names, and is not subscribed to the topic."""
    try:
        settings = context.settings()
    except NotExamined:
        return []
    named = {ALERTS: settings.alert_emails, WATCHING: settings.watchers}
    left_out = [
        address
        for topic, subscribers in found.items()
        for address in named[topic]
        if address not in {each.endpoint for each in subscribers}
    ]
    return list(dict.fromkeys(left_out))
