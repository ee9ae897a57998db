"""Checks of how a deployed pipeline is doing: rules, dead letters, alarms, runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from moto import mock_aws

from scripts.doctor.examination import examine
from scripts.doctor.finding import Finding, FindingStatus
from scripts.doctor.running import alarms, dead_letters, runs, triggers
from tests.unit.scripts.doctor.accounts import NOW, OUTPUTS, context, denied, made
from winnow.core.contract import Pointer
from winnow.core.run_document import RunDocument

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
            "switched off: A run of books has ended",
            "aws events enable-rule --name ended",
        ),
        (rule("requested"), FAILED, "switched off: requested", "aws events enable-rule --name requested"),
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
    def attributes(*, QueueUrl: str, **_: Any) -> dict[str, Any]:  # noqa: N803 boto3's name
        name = QueueUrl.rpartition("/")[2]
        assert name != "arrivals", "a queue of what is to come is no queue of what failed"
        visible = counts.get(name.partition("-")[0], 0)
        return {
            "Attributes": {
                "ApproximateNumberOfMessages": str(visible),
                "ApproximateNumberOfMessagesNotVisible": "1" if visible else "0",
            }
        }

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


RUN_ID = "01J00000000000000000000000"
NAMED = f"{OUTPUTS['PipelineArn'].replace(':stateMachine:', ':execution:')}:"


def execution(name: str, *, ended_ago: timedelta, status: str = "SUCCEEDED") -> dict[str, Any]:
    stopped = datetime.fromtimestamp(NOW, UTC) - ended_ago
    return {
        "name": name,
        "executionArn": f"{NAMED}{name}",
        "status": status,
        "startDate": stopped - timedelta(minutes=1),
        **({} if status == "RUNNING" else {"stopDate": stopped}),
    }


@dataclass(frozen=True)
class Ledger:
    """What the ledger has of runs: the `run.json` of some, the reports of some."""

    planned: bool = True
    closed: bool = False
    stepped_aside: str | None = None

    def write(self, s3: Any) -> None:
        s3.create_bucket(Bucket="ledger", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        document = RunDocument(
            run_id=RUN_ID,
            pipeline="books",
            execution=f"{NAMED}{RUN_ID}",
            stages=("clean", "index"),
            start_at="clean",
            trigger={"kind": "manual"},
            started_at="2026-01-01T00:00:00.000Z",
            replay_id=None,
            records=Pointer(bucket="ledger", key="x"),
            stepped_aside=self.stepped_aside,
        )
        if self.planned:
            body = json.dumps(document.to_json()).encode()
            s3.put_object(Bucket="ledger", Key=f"runs/{RUN_ID}/run.json", Body=body)
        if self.closed:
            s3.put_object(Bucket="ledger", Key=f"runs/{RUN_ID}/report.json", Body=b"{}")


HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@pytest.mark.parametrize(
    ("executions", "ledger", "status", "what"),
    [
        ([], Ledger(planned=False), OK, "none ended within a day"),
        ([execution(RUN_ID, ended_ago=25 * HOUR)], Ledger(), OK, "none ended within a day"),
        (
            [execution(RUN_ID, ended_ago=HOUR, status="RUNNING")],
            Ledger(),
            OK,
            "none ended within a day",
        ),
        (
            [execution(RUN_ID, ended_ago=HOUR)],
            Ledger(closed=True),
            OK,
            "all 1 that ended within a day are closed",
        ),
        (
            [execution(RUN_ID, ended_ago=HOUR, status="TIMED_OUT")],
            Ledger(),
            FAILED,
            f"1 of 1 that ended within a day were not closed, so nothing proves that they lost no record: {RUN_ID}",
        ),
        (
            [execution(RUN_ID, ended_ago=MINUTE)],
            Ledger(),
            OK,
            "1 of 1 that ended within a day are being closed, the others are closed",
        ),
        (
            [execution(RUN_ID, ended_ago=HOUR)],
            Ledger(stepped_aside="another one is running"),
            OK,
            "all 1 that ended within a day are closed",
        ),
        (
            [execution("never-planned", ended_ago=HOUR, status="FAILED")],
            Ledger(planned=False),
            OK,
            "all 1 that ended within a day are closed",
        ),
    ],
)
def test_a_run_that_was_not_closed_is_found(
    executions: list[dict[str, Any]], ledger: Ledger, status: FindingStatus, what: str
) -> None:
    answers = {
        "stepfunctions.list_executions": {"executions": executions},
        "stepfunctions.describe_execution": {"input": "{}"},
        "dynamodb.get_item": {},
    }
    with mock_aws():
        s3 = boto3.client("s3")
        ledger.write(s3)
        finding = examine(runs, context(answers, clients={"s3": s3}))
    assert finding.status is status, finding
    assert finding.what.startswith(what)
    assert finding.command == (f"winnow verify {RUN_ID}" if status is FAILED else "")


def test_who_may_not_list_executions_is_told() -> None:
    finding = examine(runs, context({"stepfunctions.list_executions": denied("states:ListExecutions")}))
    assert finding.what == "not examined: you lack the permission states:ListExecutions"


@pytest.mark.parametrize("check", [triggers, dead_letters, alarms, runs])
def test_before_the_first_deploy_there_is_nothing_to_look_at(check: Any) -> None:
    assert examine(check, context(stacks=[])) == Finding.skipped("not deployed yet")
