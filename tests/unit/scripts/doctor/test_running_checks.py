"""Checks of how a deployed pipeline is doing: rules, dead letters, alarms, runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from moto import mock_aws

from scripts.doctor.context import DoctorContext
from scripts.doctor.examination import examine
from scripts.doctor.finding import Finding, FindingStatus
from scripts.doctor.running import alarms, dead_letters, runs, triggers
from tests.unit.scripts.doctor.accounts import NOW, OUTPUTS, context, denied, made
from winnow.runs.closer import closed_mark
from winnow.storage.state_table import DynamoStateTable

OK, WARNING, FAILED = FindingStatus.OK, FindingStatus.WARNING, FindingStatus.FAILED

RULES = made(
    ("AWS::Events::Rule", "TriggersRunRequested", "requested"),
    ("AWS::Events::Rule", "RunCloserRunEnded", "own-bus|ended"),
    ("AWS::SQS::Queue", "TriggersDeadLetters", "https://sqs/1/letters"),
)


def rule(disabled: str) -> Any:
    def describe(*, Name: str, EventBusName: str = "default") -> dict[str, Any]:  # noqa: N803 boto3's names
        assert EventBusName == ("own-bus" if Name == "ended" else "default")
        state = "DISABLED" if Name == disabled else "ENABLED"
        return {"State": state, **({"Description": "A run of books has ended"} if Name == "ended" else {})}

    return describe


@pytest.mark.parametrize(
    ("answer", "status", "what", "command"),
    [
        (rule("none"), OK, "all 2 rules are on", ""),
        (
            rule("ended"),
            FAILED,
            '1 of 2 rules switched off: "A run of books has ended"',
            "aws events enable-rule --name ended --event-bus-name own-bus",
        ),
        (
            rule("requested"),
            FAILED,
            '1 of 2 rules switched off: "requested"',
            "aws events enable-rule --name requested",
        ),
        (
            denied("events:DescribeRule"),
            WARNING,
            "not examined: you lack the permission events:DescribeRule",
            "",
        ),
    ],
)
def test_a_rule_that_is_switched_off_is_found(
    answer: Any, status: FindingStatus, what: str, command: str
) -> None:
    answers = {"cloudformation.list_stack_resources": RULES, "events.describe_rule": answer}
    finding = examine(triggers, context(answers))
    assert (finding.status, finding.what, finding.command) == (status, what, command)


QUEUES = made(
    ("AWS::SQS::Queue", "BooksTriggersDeadLetters1", "https://sqs/1/start-letters"),
    ("AWS::SQS::Queue", "BooksAlertsSlackDeadLetters2", "https://sqs/1/slack-letters"),
    ("AWS::SQS::Queue", "BooksTriggersArrivals3", "https://sqs/1/arrivals"),
)


def depth(**counts: int) -> Any:
    def attributes(*, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:  # noqa: N803 boto3's names
        name = QueueUrl.rpartition("/")[2]
        assert name != "arrivals", "a queue of what is to come is no queue of what failed"
        visible = counts.get(name.partition("-")[0], 0)
        known = {
            "ApproximateNumberOfMessages": str(visible),
            "ApproximateNumberOfMessagesNotVisible": "1" if visible else "0",
        }
        return {"Attributes": {key: known[key] for key in AttributeNames}}

    return attributes


@pytest.mark.parametrize(
    ("answer", "status", "what"),
    [
        (depth(), OK, "all 2 queues of what could not be delivered are empty"),
        (depth(slack=2), FAILED, "messages wait that could not be delivered: 3 in slack-letters"),
        (
            depth(slack=2, start=1),
            FAILED,
            "messages wait that could not be delivered: 2 in start-letters, 3 in slack-letters",
        ),
        (
            denied("sqs:GetQueueAttributes"),
            WARNING,
            "not examined: you lack the permission sqs:GetQueueAttributes",
        ),
    ],
)
def test_what_could_not_be_delivered_is_counted(answer: Any, status: FindingStatus, what: str) -> None:
    answers = {"cloudformation.list_stack_resources": QUEUES, "sqs.get_queue_attributes": answer}
    finding = examine(dead_letters, context(answers))
    assert (finding.status, finding.what) == (status, what)


def test_the_command_reads_dead_letters_and_leaves_them_where_they_are() -> None:
    answers = {"cloudformation.list_stack_resources": QUEUES, "sqs.get_queue_attributes": depth(slack=1)}
    assert examine(dead_letters, context(answers)).command == (
        "aws sqs receive-message --visibility-timeout 0 --max-number-of-messages 10 "
        "--queue-url https://sqs/1/slack-letters"
    )


MANY_ALARMS = made(
    *(("AWS::CloudWatch::Alarm", f"Alarm{number}", f"alarm-{number}") for number in range(101))
)


@pytest.mark.parametrize(
    ("ringing", "status", "what"),
    [
        ([], OK, "none of 101 is in ALARM"),
        (
            ["alarm-3", "alarm-100"],
            WARNING,
            "2 of 101 in ALARM: About alarm-3. About alarm-100.",
        ),
    ],
)
def test_alarms_are_asked_for_a_hundred_at_a_time(
    ringing: list[str], status: FindingStatus, what: str
) -> None:
    def describe(*, AlarmNames: list[str], StateValue: str, **_: Any) -> dict[str, Any]:  # noqa: N803 boto3's names
        assert (len(AlarmNames) <= 100, StateValue) == (True, "ALARM")
        found = [name for name in ringing if name in AlarmNames]
        return {"MetricAlarms": [{"AlarmName": name, "AlarmDescription": f"About {name}."} for name in found]}

    answers = {"cloudformation.list_stack_resources": MANY_ALARMS, "cloudwatch.describe_alarms": describe}
    finding = examine(alarms, context(answers))
    assert (finding.status, finding.what) == (status, what)


NAMED = f"{OUTPUTS['PipelineArn'].replace(':stateMachine:', ':execution:')}:"
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def ended(name: str, ago: timedelta, status: str = "SUCCEEDED", redrives: int = 0) -> dict[str, Any]:
    stopped = datetime.fromtimestamp(NOW, UTC) - ago
    return {
        "executionArn": f"{NAMED}{name}",
        "status": status,
        "stopDate": stopped,
        "redriveCount": redrives,
    }


@contextmanager
def account(executions: list[dict[str, Any]], closed: Sequence[tuple[str, int]]) -> Iterator[DoctorContext]:
    """An account with these executions; `closed` are those that were closed, after so many redrives."""

    def listing(*, statusFilter: str, **_: Any) -> dict[str, Any]:  # noqa: N803 boto3's name
        return {"executions": [each for each in executions if each["status"] == statusFilter]}

    with mock_aws():
        dynamodb = boto3.client("dynamodb")
        dynamodb.create_table(
            TableName="state",
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
            BillingMode="PAY_PER_REQUEST",
        )
        state = DynamoStateTable("state", dynamodb)
        for name, redrives in closed:
            state.mark(f"{NAMED}{name}", closed_mark(redrives))
        yield context({"stepfunctions.list_executions": listing}, clients={"dynamodb": dynamodb})


@pytest.mark.parametrize(
    ("executions", "closed", "status", "what"),
    [
        ([], (), OK, "none ended within a day"),
        ([ended("a", 25 * HOUR)], (), OK, "none ended within a day"),
        (
            [ended("a", 2 * HOUR), ended("b", MINUTE, "ABORTED")],
            (("a", 0), ("b", 0)),
            OK,
            "all 2 that ended within a day are closed",
        ),
        (
            [ended("a", 2 * HOUR), ended("b", MINUTE)],
            (("a", 0),),
            OK,
            "1 of 2 that ended within a day are being closed, the others are closed",
        ),
        (
            [ended("a", 11 * MINUTE)],
            (),
            WARNING,
            "1 of 1 that ended within a day were not closed yet; the sweep of each hour closes them",
        ),
        (
            [ended("a", 2 * HOUR, "TIMED_OUT"), ended("b", MINUTE)],
            (("b", 0),),
            FAILED,
            "1 of 2 that ended within a day were not closed, so nothing proves that they lost no record",
        ),
        (
            [ended("a", 2 * HOUR, redrives=1)],
            (("a", 0),),
            FAILED,
            "1 of 1 that ended within a day were not closed, so nothing proves that they lost no record",
        ),
    ],
)
def test_a_run_that_was_not_closed_is_found(
    executions: list[dict[str, Any]], closed: Sequence[tuple[str, int]], status: FindingStatus, what: str
) -> None:
    with account(executions, closed) as examined:
        finding = examine(runs, examined)
    assert (finding.status, finding.what) == (status, what)
    assert finding.command == ("winnow verify a --environment dev" if status is FAILED else "")


def test_who_may_not_list_executions_is_told() -> None:
    finding = examine(runs, context({"stepfunctions.list_executions": denied("states:ListExecutions")}))
    assert finding.what == "not examined: you lack the permission states:ListExecutions"


@pytest.mark.parametrize("check", [triggers, dead_letters, alarms, runs])
def test_before_the_first_deploy_there_is_nothing_to_look_at(check: Any) -> None:
    assert examine(check, context(stacks=[])) == Finding.skipped("not deployed yet")
