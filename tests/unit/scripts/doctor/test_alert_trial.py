"""`winnow alert test`: it is sent as real alerts are, and what is known of its arrival is told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scripts.commands import cli
from scripts.doctor.alert_trial import CLOCKS_APART_SECONDS, WAIT_SECONDS, AlertTrial, Arrival
from scripts.doctor.examination import examine
from scripts.doctor.finding import Finding, FindingStatus
from scripts.doctor.probe_alert import alert_arrives
from tests.unit.scripts.doctor.accounts import ME, OUTPUTS, aws_error, context, denied, stack
from winnow.alerts.slack import Courier, SlackError
from winnow.alerts.slack_blocks import slack_message
from winnow.handlers.slack import handler as slack_handler

OK, WARNING, FAILED = FindingStatus.OK, FindingStatus.WARNING, FindingStatus.FAILED

MESSAGE_ID = "3fa1b2c3-0000-4000-8000-000000000000"
FUNCTION = "arn:aws:lambda:eu-west-1:1:function:slack"
SLACK = {"Protocol": "lambda", "Endpoint": FUNCTION, "SubscriptionArn": "arn:1"}
ANN = {"Protocol": "email", "Endpoint": "ann@example.org", "SubscriptionArn": "arn:2"}
BEN = {"Protocol": "email", "Endpoint": "ben@example.org", "SubscriptionArn": "PendingConfirmation"}

DELIVERED = json.dumps({"SlackDelivered": [1.0], "message_ids": [MESSAGE_ID]})
REFUSED = json.dumps(
    {
        "level": "ERROR",
        "message": f"1 of 1 alerts did not reach slack: {MESSAGE_ID}: slack refused the message (404: no_service)",
    }
)
BEGUN = json.dumps({"level": "INFO", "message": "invoked", "aws_request": MESSAGE_ID})


class Sns:
    """Takes what is published, and has the subscribers that a test says."""

    def __init__(self, *subscriptions: dict[str, str]) -> None:
        self.subscriptions = subscriptions
        self.published: list[dict[str, Any]] = []

    def answers(self, *log: list[str] | Exception) -> dict[str, Any]:
        """Answers of an account in which the function's log has these lines, one list a look."""
        looks: Iterator[list[str] | Exception] = iter(log)

        def look(*, logGroupName: str, filterPattern: str, startTime: int) -> Any:  # noqa: N803 boto3's names
            assert (logGroupName, filterPattern) == ("/books/slack", f'"{MESSAGE_ID}"')
            assert abs(startTime / 1000 + CLOCKS_APART_SECONDS - time.time()) < CLOCKS_APART_SECONDS
            lines = next(looks, [])
            return (
                lines if isinstance(lines, Exception) else {"events": [{"message": line} for line in lines]}
            )

        return {
            "sns.list_subscriptions_by_topic": {"Subscriptions": list(self.subscriptions)},
            "sns.publish": self._publish,
            "lambda.get_function_configuration": {
                "FunctionName": "slack",
                "LoggingConfig": {"LogGroup": "/books/slack"},
            },
            "logs.filter_log_events": look,
        }

    def _publish(self, **message: Any) -> dict[str, str]:
        self.published.append(message)
        return {"MessageId": MESSAGE_ID}


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def __call__(self) -> float:
        return self.seconds


def arrivals(answers: dict[str, Any], **more: Any) -> list[Arrival]:
    clock = Clock()
    examined = context(answers, **{"clock": time.time, **more})
    return list(AlertTrial(examined, sleep=clock.sleep, monotonic=clock).arrivals())


TAIL = "aws logs tail /books/slack --since 10m"


@pytest.mark.parametrize(
    ("log", "finding"),
    [
        ([[DELIVERED]], Finding.ok("arrived after 0 s")),
        ([[], [BEGUN], [BEGUN, DELIVERED]], Finding.ok("arrived after 4 s")),
        (
            [[], [REFUSED]],
            Finding.failed(
                "did not arrive: slack refused the message (404: no_service)",
                "It is tried twice more, and then waits in the dead-letter queue. The whole story:",
                TAIL,
            ),
        ),
        (
            [[f"[ERROR] SlackError: 1 of 1 alerts did not reach slack: {MESSAGE_ID}: no answer"]],
            Finding.failed(
                "did not arrive: no answer",
                "It is tried twice more, and then waits in the dead-letter queue. The whole story:",
                TAIL,
            ),
        ),
        (
            [[]],
            Finding.failed(
                f"was not seen to arrive within {WAIT_SECONDS} s",
                "See whether the function was called, and what it says:",
                TAIL,
            ),
        ),
        (
            [denied("logs:FilterLogEvents")],
            Finding.warning(
                "sent; whether it arrived cannot be seen: you lack the permission logs:FilterLogEvents",
                "Look into the channel.",
            ),
        ),
    ],
)
def test_the_log_of_the_function_that_posts_to_slack_tells_whether_it_arrived(
    log: list[list[str] | Exception], finding: Finding
) -> None:
    assert arrivals(Sns(SLACK).answers(*log)) == [Arrival(subscriber="alerts: Slack", finding=finding)]


def test_each_subscriber_is_told_of() -> None:
    found = arrivals(Sns(SLACK, ANN, BEN).answers([DELIVERED]))
    assert [(each.subscriber, each.finding.status) for each in found] == [
        ("alerts: Slack", OK),
        ("alerts: ann@example.org", OK),
        ("alerts: ben@example.org", WARNING),
    ]
    assert "not confirmed" in found[2].finding.what


def test_a_topic_without_subscribers_is_a_failure_and_nothing_is_published() -> None:
    sns = Sns()
    [nobody] = arrivals(sns.answers())
    assert (nobody.subscriber, nobody.finding.status) == ("alerts", FAILED)
    assert sns.published == []


def test_that_nobody_hears_of_broken_alerting_is_a_warning_where_changes_need_no_confirmation() -> None:
    def only_alerts(*, TopicArn: str) -> dict[str, Any]:  # noqa: N803 boto3's name
        return {"Subscriptions": [ANN] if TopicArn == OUTPUTS["AlertTopicArn"] else []}

    answers = {**Sns().answers(), "sns.list_subscriptions_by_topic": only_alerts}
    for confirm, status in (("false", WARNING), ("true", FAILED)):
        deployed = stack(outputs={"WatchTopicArn": "arn:watch", "ConfirmChanges": confirm})
        alerts, watching = arrivals(answers, stacks=[deployed])
        assert (alerts.finding.status, watching.subscriber) == (OK, "watching")
        assert watching.finding.status is status


def test_every_topic_gets_it() -> None:
    sns = Sns(ANN)
    deployed = stack(outputs={"WatchTopicArn": "arn:watch"})
    found = arrivals(sns.answers(), stacks=[deployed])
    assert [each.subscriber for each in found] == ["alerts: ann@example.org", "watching: ann@example.org"]
    assert [each["TopicArn"] for each in sns.published] == [OUTPUTS["AlertTopicArn"], "arn:watch"]


def test_it_is_an_alert_like_any_other_and_marked_as_a_test() -> None:
    sns = Sns(ANN)
    arrivals(sns.answers())
    [published] = sns.published
    assert published["Subject"] == "[dev] books: a test of the alerts; nothing is wrong"
    assert published["MessageAttributes"]["verdict"]["StringValue"] == "TEST"
    by_protocol = json.loads(published["Message"])
    assert f"winnow alert test, by {ME}" in by_protocol["default"]
    assert "./scripts/winnow doctor books" in by_protocol["default"]
    message = slack_message(published["Subject"], by_protocol["lambda"])
    assert message["blocks"][0]["text"]["text"] == (
        ":large_green_circle: [dev] books: a test of the alerts; nothing is wrong"
    )
    assert "You need to do nothing" in json.dumps(message)


def winnow(answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *arguments: str, **more: Any) -> Result:
    target = context(answers, **more).target
    monkeypatch.setattr("scripts.commands.aim.at_environment", lambda: target)
    return CliRunner().invoke(cli.main, ["alert", "test", *arguments])


def test_the_command_tells_a_line_per_subscriber(monkeypatch: pytest.MonkeyPatch) -> None:
    result = winnow(Sns(SLACK, BEN).answers([DELIVERED]), monkeypatch)
    assert (result.exit_code, result.stderr) == (0, "dev: test alert of books, in the account of the test\n")
    assert result.stdout.splitlines() == [
        "  ok       alerts: Slack            arrived after 0 s",
        "  warning  alerts: ben@example.org  the subscription is not confirmed, so nothing is sent there",
        "                                    → Confirm it by the link in the message that SNS sent.",
    ]


def test_the_command_fails_where_it_did_not_arrive_and_prints_json(monkeypatch: pytest.MonkeyPatch) -> None:
    result = winnow(Sns(SLACK).answers([REFUSED]), monkeypatch, "books", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert (document["pipeline"], document["environment"], document["failed"]) == ("books", "dev", True)
    [arrival] = document["arrivals"]
    assert (arrival["subscriber"], arrival["status"]) == ("alerts: Slack", "failed")


@pytest.mark.parametrize(
    ("changes", "arguments", "code", "line"),
    [
        ({}, ["shelves"], 2, "PIPELINE must be one of books"),
        (
            {"sns.publish": denied("SNS:Publish")},
            [],
            1,
            "you lack the permission SNS:Publish; ",
        ),
        (
            {"sns.publish": aws_error("KMSAccessDenied", "no key", "Publish")},
            [],
            1,
            "you lack the permission to call Publish; ",
        ),
    ],
)
def test_what_cannot_be_sent_is_told_in_one_line(
    changes: dict[str, Any], arguments: list[str], code: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = winnow({**Sns(ANN).answers(), **changes}, monkeypatch, *arguments)
    assert result.exit_code == code
    assert f"Error: {line}" in result.stderr.splitlines()[-1]


def test_prod_asks_before_it_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    sns = Sns(ANN)
    prod = stack(outputs={"Environment": "prod", "ConfirmChanges": "true"})
    refused = winnow(sns.answers(), monkeypatch, stacks=[prod])
    assert (refused.exit_code, sns.published) == (2, [])
    assert winnow(sns.answers(), monkeypatch, "--yes", stacks=[prod]).exit_code == 0
    assert len(sns.published) == 1


@pytest.mark.parametrize(
    ("log", "status", "what"),
    [
        ([DELIVERED], OK, "alerts: Slack: arrived after 0 s; alerts: ann@example.org: SNS has taken it"),
        ([REFUSED], FAILED, "alerts: Slack: did not arrive: slack refused the message (404: no_service);"),
    ],
)
def test_the_probe_is_as_bad_as_the_worst_arrival(log: list[str], status: FindingStatus, what: str) -> None:
    finding = examine(alert_arrives, context(Sns(SLACK, ANN).answers(log), clock=time.time))
    assert finding.status is status
    assert finding.what.startswith(what)


class Slack:
    """A webhook that takes a message, or refuses it."""

    def __init__(self, refusal: str | None) -> None:
        self._refusal = refusal

    def post(self, _: Any, *, deadline: float) -> None:
        assert deadline > 0
        if self._refusal:
            raise SlackError(self._refusal)


class Invocation:
    """What Lambda tells a function of an invocation."""

    aws_request_id = "request"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


@pytest.mark.parametrize(
    ("refusal", "status", "what"),
    [
        (None, OK, "arrived after 0 s"),
        ("slack's webhook is gone", FAILED, "did not arrive: slack's webhook is gone"),
    ],
)
def test_what_the_function_that_posts_to_slack_logs_is_understood(
    refusal: str | None,
    status: FindingStatus,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WINNOW_PIPELINE", "books")
    monkeypatch.setenv("WINNOW_ENVIRONMENT", "dev")
    monkeypatch.setenv("WINNOW_SLACK_SECRET_ARN", "hook")
    courier = Courier(Slack(refusal))  # type: ignore[arg-type]
    monkeypatch.setattr("winnow.handlers.slack._courier", lambda _: courier)
    event = {"Records": [{"Sns": {"MessageId": MESSAGE_ID, "Subject": "s", "Message": "m"}}]}
    with suppress(SlackError):
        slack_handler(event, Invocation())  # type: ignore[arg-type]
    lines = capsys.readouterr().out.splitlines()
    [arrival] = arrivals(Sns(SLACK).answers(lines))
    assert (arrival.finding.status, arrival.finding.what) == (status, what)
