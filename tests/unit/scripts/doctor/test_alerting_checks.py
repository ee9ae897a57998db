"""Checks of whether people would hear: the secret of the webhook, the subscriptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.doctor.alerting import slack_secret, subscribed
from scripts.doctor.examination import examine
from scripts.doctor.finding import Finding, FindingStatus
from tests.unit.scripts.doctor.accounts import OUTPUTS, aws_error, clone, context, denied, stack

OK, WARNING, FAILED = FindingStatus.OK, FindingStatus.WARNING, FindingStatus.FAILED
SECRET = "https://hooks.slack.com/services/T00/B00/verysecretabcd"
HOOK = "secret winnow/hook holds a webhook of hooks.slack.com, ending in …abcd"


@pytest.mark.parametrize(
    ("answer", "is_local", "status", "what", "command"),
    [
        ({"SecretString": SECRET}, False, OK, HOOK, ""),
        ({"SecretString": f'{{"url": "{SECRET}"}}'}, False, OK, HOOK, ""),
        (
            {"SecretString": "http://127.0.0.1:1234/services/slack"},
            True,
            OK,
            "secret winnow/hook holds a webhook of 127.0.0.1, ending in …lack",
            "",
        ),
        (
            {"SecretString": "https://chat.example.org/services/abcd"},
            False,
            WARNING,
            (
                "secret winnow/hook holds a webhook of chat.example.org, ending in …abcd; Slack's incoming webhooks "
                "begin with https://hooks.slack.com/services/"
            ),
            "aws secretsmanager put-secret-value",
        ),
        (
            {"SecretString": "https://hooks.slack.com/workflows/T00/abcd"},
            False,
            WARNING,
            f"{HOOK}; Slack's incoming webhooks begin with https://hooks.slack.com/services/",
            "aws secretsmanager put-secret-value",
        ),
        (
            {"SecretString": "https://hooks.slack.com/services/…"},
            False,
            FAILED,
            "secret winnow/hook holds only the beginning of an address",
            "aws secretsmanager put-secret-value",
        ),
        (
            {"SecretString": "to do"},
            False,
            FAILED,
            "secret winnow/hook holds no address of a webhook",
            "aws secretsmanager put-secret-value",
        ),
        (
            {"SecretBinary": b"\0"},
            False,
            FAILED,
            "secret winnow/hook holds no address of a webhook",
            "aws secretsmanager put-secret-value",
        ),
        (
            aws_error("ResourceNotFoundException"),
            False,
            FAILED,
            "there is no secret winnow/hook",
            "aws secretsmanager create-secret",
        ),
        (
            aws_error("InvalidRequestException"),
            False,
            FAILED,
            "secret winnow/hook is marked for deletion",
            "aws secretsmanager restore-secret",
        ),
        (
            denied("secretsmanager:GetSecretValue"),
            False,
            WARNING,
            "not examined: you lack the permission secretsmanager:GetSecretValue",
            "",
        ),
    ],
)
def test_the_secret_holds_a_webhook_and_is_not_printed(
    *, answer: Any, is_local: bool, status: FindingStatus, what: str, command: str, tmp_path: Path
) -> None:
    root = clone(tmp_path, slack_webhook_secret="winnow/hook")
    examined = context({"secretsmanager.get_secret_value": answer}, root=root, is_local=is_local)
    finding = examine(slack_secret, examined)
    assert (finding.status, finding.what) == (status, what)
    assert finding.command.startswith(command)
    assert bool(finding.command) == bool(command)
    assert "verysecret" not in str(finding)


def test_without_a_secret_in_the_settings_alerts_do_not_go_to_slack(tmp_path: Path) -> None:
    finding = examine(slack_secret, context(root=clone(tmp_path)))
    assert finding == Finding.ok("cdk.json names none (slack_webhook_secret), so alerts do not go to Slack")


SLACK = {
    "Protocol": "lambda",
    "Endpoint": "arn:aws:lambda:eu-west-1:1:function:slack",
    "SubscriptionArn": "arn:1",
}
ANN = {"Protocol": "email", "Endpoint": "ann@example.org", "SubscriptionArn": "arn:2"}
BEN = {"Protocol": "email", "Endpoint": "ben@example.org", "SubscriptionArn": "PendingConfirmation"}


LEFT = {"Protocol": "email", "Endpoint": "lee@example.org", "SubscriptionArn": "Deleted"}


@pytest.mark.parametrize(
    ("subscriptions", "environment", "status", "what", "remedy"),
    [
        ([SLACK, LEFT], "dev", OK, "alerts: Slack", ""),
        ([SLACK, ANN], "dev", OK, "alerts: Slack, ann@example.org", ""),
        (
            [SLACK, BEN],
            "dev",
            WARNING,
            "alerts: Slack, ben@example.org (not confirmed)",
            "Confirm: ben@example.org got a message with a link that is good for three days.",
        ),
        (
            [],
            "dev",
            WARNING,
            "nobody would hear of failures (alerts: nobody)",
            "Name somebody in cdk.json (alert_emails, slack_webhook_secret) and deploy.",
        ),
        (
            [],
            "prod",
            FAILED,
            "nobody would hear of failures (alerts: nobody)",
            "Name somebody in cdk.json (alert_emails, slack_webhook_secret) and deploy.",
        ),
        (
            [BEN],
            "prod",
            FAILED,
            "nobody would hear of failures (alerts: ben@example.org (not confirmed))",
            (
                "Confirm: ben@example.org got a message with a link that is good for three days. "
                "Name somebody in cdk.json (alert_emails, slack_webhook_secret) and deploy."
            ),
        ),
        (
            denied("SNS:ListSubscriptionsByTopic"),
            "dev",
            WARNING,
            "not examined: you lack the permission SNS:ListSubscriptionsByTopic",
            "Ask for it, or run this as someone who has it.",
        ),
    ],
)
def test_somebody_would_hear(
    subscriptions: Any, environment: str, status: FindingStatus, what: str, remedy: str, tmp_path: Path
) -> None:
    answer = {"Subscriptions": subscriptions} if isinstance(subscriptions, list) else subscriptions
    confirm = str(environment == "prod").lower()
    deployed = stack(outputs={"Environment": environment, "ConfirmChanges": confirm})
    examined = context(
        {"sns.list_subscriptions_by_topic": answer},
        stacks=[deployed],
        environment=environment,
        root=clone(tmp_path),
    )
    finding = examine(subscribed, examined)
    assert (finding.status, finding.what, finding.remedy) == (status, what, remedy)


def test_who_has_yet_to_confirm_can_be_asked_again() -> None:
    finding = examine(
        subscribed, context({"sns.list_subscriptions_by_topic": {"Subscriptions": [SLACK, BEN]}})
    )
    assert finding.command == (
        f"aws sns subscribe --topic-arn {OUTPUTS['AlertTopicArn']} "
        "--protocol email --notification-endpoint ben@example.org"
    )


def test_who_is_named_in_the_settings_and_left_is_told(tmp_path: Path) -> None:
    root = clone(tmp_path, alert_emails=["ann@example.org", "cat@example.org"])
    answers = {"sns.list_subscriptions_by_topic": {"Subscriptions": [SLACK, ANN]}}
    finding = examine(subscribed, context(answers, root=root))
    assert finding.status is WARNING
    assert finding.what.endswith("cdk.json names cat@example.org, who did not subscribe")


def test_the_topic_that_tells_of_broken_watching_needs_somebody_too() -> None:
    def subscriptions(*, TopicArn: str) -> dict[str, Any]:  # noqa: N803 boto3's name
        return {"Subscriptions": [SLACK, ANN] if TopicArn == OUTPUTS["AlertTopicArn"] else []}

    answers = {"sns.list_subscriptions_by_topic": subscriptions}
    deployed = [stack(outputs={"WatchTopicArn": "arn:watch"})]
    said = "alerts: Slack, ann@example.org; watching: nobody"
    finding = examine(subscribed, context(answers, stacks=deployed))
    assert finding == Finding.warning(
        f"nobody would hear when alerting itself is broken ({said})",
        "Name somebody in cdk.json (alert_emails, watch_emails) and deploy.",
    )
    on_the_emulator = examine(subscribed, context(answers, stacks=deployed, is_local=True))
    assert on_the_emulator == Finding.ok(f"{said}; no e-mail leaves the emulator")
