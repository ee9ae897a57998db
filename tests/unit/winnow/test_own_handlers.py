"""Our own Lambdas' handlers, wired to AWS as moto plays it: what they read from the environment, call and return."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider
from moto import mock_aws

from tests.unit.winnow.registers import TABLE, create_table
from tests.unit.winnow.runs import RUN_ID, STAGES, Pipeline
from tests.unit.winnow.test_alert import content
from tests.unit.winnow.test_published_by_run import publish, version
from tests.unit.winnow.test_slack import FakeSlack
from winnow.core import keys
from winnow.core.errors import StageInputError
from winnow.handlers import alert, close_run, close_window, plan_run, register, slack, start_run
from winnow.publish.published_set import PublishedSet
from winnow.register.table import RegisterUnavailable
from winnow.settings import SettingsError
from winnow.storage import clients
from winnow.storage.ledger import Ledger
from winnow.storage.listing import RESERVE_SECONDS
from winnow.storage.published_store import S3PublishedStore
from winnow.storage.state_table import DynamoStateTable
from winnow.storage.store import S3Store
from winnow.testing import FakeContext

if TYPE_CHECKING:
    from collections.abc import Iterator

REGION = "us-east-1"


@dataclass(slots=True)
class Account:
    """What a deployed pipeline has, as far as these handlers touch it."""

    machine_arn: str
    queue_url: str
    sqs: Any
    stepfunctions: Any
    s3: Any
    secrets: Any
    ledger: Ledger
    state: DynamoStateTable

    def execution(self, name: str) -> str:
        return f"{self.machine_arn.replace(':stateMachine:', ':execution:')}:{name}"

    def messages(self) -> list[dict[str, Any]]:
        """What subscribers of the alert topic got."""
        found = self.sqs.receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"]) for message in found]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": REGION,
        "WINNOW_PIPELINE": "catalogue",
        "WINNOW_LEDGER_BUCKET": "ledger",
        "WINNOW_SOURCE_BUCKET": "source",
        "WINNOW_STATE_TABLE": "state",
        "WINNOW_REGISTER_TABLE": TABLE,
        "WINNOW_STAGES": "adapt,transform,mint",
        "WINNOW_ENVIRONMENT": "prod",
    }.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        clients.client.cache_clear()
        clients._session.cache_clear()
        make = botocore.session.get_session().create_client
        s3: Any = make("s3", region_name=REGION)
        dynamodb: Any = make("dynamodb", region_name=REGION)
        sns: Any = make("sns", region_name=REGION)
        sqs: Any = make("sqs", region_name=REGION)
        stepfunctions: Any = make("stepfunctions", region_name=REGION)
        for bucket in ("ledger", "source"):
            s3.create_bucket(Bucket=bucket)
        dynamodb.create_table(
            TableName="state",
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            BillingMode="PAY_PER_REQUEST",
        )
        create_table(dynamodb)
        topic = sns.create_topic(Name="alerts")["TopicArn"]
        queue = sqs.create_queue(QueueName="alerts")["QueueUrl"]
        queue_arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn)
        machine = stepfunctions.create_state_machine(
            name="catalogue",
            definition=json.dumps({"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}),
            roleArn="arn:aws:iam::123456789012:role/any",
        )["stateMachineArn"]
        monkeypatch.setenv("WINNOW_ALERT_TOPIC_ARN", topic)
        yield Account(
            machine_arn=machine,
            queue_url=queue,
            sqs=sqs,
            stepfunctions=stepfunctions,
            s3=s3,
            secrets=make("secretsmanager", region_name=REGION),
            ledger=Ledger(S3Store("ledger", s3)),
            state=DynamoStateTable("state", dynamodb),
        )
    clients.client.cache_clear()
    clients._session.cache_clear()


@pytest.fixture(autouse=True)
def _metrics_name_their_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    emitted: list[dict[str, str]] = []

    class Emf(AmazonCloudWatchEMFProvider):
        def flush_metrics(self, raise_on_empty_metrics: bool = False) -> None:  # noqa: FBT001, FBT002  Powertools' own
            emitted.append(dict(self.dimension_set))
            super().flush_metrics(raise_on_empty_metrics)

    monkeypatch.setattr("winnow.metrics.watch.AmazonCloudWatchEMFProvider", Emf)
    yield
    for dimensions in emitted:
        assert dimensions["environment"] == "prod"
        assert dimensions["pipeline"] == "catalogue"
        assert set(dimensions) <= {"environment", "pipeline", "stage"}


def call(handler: Any, event: object, seconds: float = 300) -> Any:
    """Invoke a handler as Lambda does: what it returns must be JSON."""
    return json.loads(json.dumps(handler(event, FakeContext(seconds=seconds))))


def test_plan_run_plans_and_steps_aside(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WINNOW_PIPELINE_ARN", raising=False)  # it cannot be told the machine that invokes it
    account.s3.put_object(Bucket="source", Key="a.xml", Body=b"<x/>")
    scheduled = {"trigger": {"kind": "schedule", "time": "2026-11-20T06:00:00Z"}}
    account.stepfunctions.start_execution(stateMachineArn=account.machine_arn, name=RUN_ID, input="{}")
    first = call(
        plan_run.handler, {"input": scheduled, "execution": account.execution(RUN_ID), "name": RUN_ID}
    )
    assert first["proceed"] is True
    location = first["stages"]["source"]["successes"]["batch_file_location"]
    assert json.loads(account.ledger.store.get(location["key"]).body)["id"] == "a.xml"
    second = call(
        plan_run.handler, {"input": scheduled, "execution": account.execution("next"), "name": "next"}
    )
    assert second["proceed"] is False
    assert RUN_ID in second["reason"]


def test_plan_run_refuses_a_source_that_it_has_no_time_to_list(account: Account) -> None:
    account.s3.put_object(Bucket="source", Key="a.xml", Body=b"<x/>")
    event = {"input": {"run_id": "late"}, "execution": account.execution("late"), "name": "late"}
    with pytest.raises(StageInputError, match="prefix: has too many objects to list in one run"):
        call(plan_run.handler, event, seconds=RESERVE_SECONDS)
    assert list(account.ledger.store.keys(keys.run_source("late"))) == []


def test_start_run_starts_what_event_bridge_and_the_queue_ask_for(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINNOW_PIPELINE_ARN", account.machine_arn)
    asked = {"pipeline": "catalogue", "environment": "prod"}
    event = {"id": "e1", "time": "2026-11-20T06:00:00Z", "detail": asked}
    run_id = call(start_run.handler, event)["run_id"]
    assert call(start_run.handler, event) == {"run_id": run_id}
    windows = account.sqs.create_queue(QueueName="windows")["QueueUrl"]
    monkeypatch.setenv("WINNOW_WINDOW_QUEUE_URL", windows)
    monkeypatch.setenv("WINNOW_WINDOW_SECONDS", "0")
    created = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "time": "2026-11-20T06:00:00Z",
        "detail": {
            "bucket": {"name": "source"},
            "object": {"key": "a.xml", "size": 1, "etag": "e", "sequencer": "1"},
        },
    }
    records = [
        {"eventSource": "aws:sqs", "messageId": "good", "body": json.dumps(created)},
        {"eventSource": "aws:sqs", "messageId": "bad", "body": "?"},
    ]
    for _ in range(2):
        assert call(start_run.handler, {"Records": records}) == {
            "batchItemFailures": [{"itemIdentifier": "bad"}]
        }
    (message,) = account.sqs.receive_message(QueueUrl=windows, MaxNumberOfMessages=10)["Messages"]
    due = [
        {"eventSource": "aws:sqs", "messageId": "due", "body": message["Body"]},
        {"eventSource": "aws:sqs", "messageId": "bad", "body": "?"},
    ]
    for _ in range(2):
        assert call(close_window.handler, {"Records": due}) == {
            "batchItemFailures": [{"itemIdentifier": "bad"}]
        }
    found = account.stepfunctions.list_executions(stateMachineArn=account.machine_arn)["executions"]
    assert len(found) == 2
    (run,) = (each["executionArn"] for each in found if each["name"] == json.loads(message["Body"])["window"])
    given = json.loads(account.stepfunctions.describe_execution(executionArn=run)["input"])
    assert json.loads(account.ledger.store.get(given["records"]["key"]).body)["id"] == "a.xml"
    refused = {"id": "e2", "time": "2026", "detail": {"pipeline": "?"}}
    for _ in range(2):
        assert call(start_run.handler, refused) == {"run_id": None}
    (message,) = account.messages()
    assert message["MessageAttributes"]["verdict"]["Value"] == "REFUSED"


def settled(account: Account, run_id: str) -> dict[str, Any]:
    """The state that Settle leaves of a stage in which one record of two failed."""
    pipeline = Pipeline({"adapt": STAGES["adapt"]}, ledger=account.ledger)
    pipeline.run({"records": ["a", "bad"]}, run_id)
    order = {
        "run_id": run_id,
        "pipeline": "catalogue",
        "stage": "adapt",
        "attempt": 0,
        "try_count": 0,
        "count": 2,
        "plan": account.ledger.pointer(keys.StageKeys(run_id, "adapt").plan),
        "policy": {},
    }
    return {"verdict": "EXHAUSTED", "order": order, "output": {}, "alert": True, "worker": {"succeeded": 1}}


def test_register_says_what_is_news(account: Account) -> None:
    for run_id, is_new in (("R1", True), ("R1", True), ("R2", False)):
        state = settled(account, run_id)
        event = {"execution": account.execution(run_id), "state": state}
        assert call(register.handler, event) == {**state, "alert": is_new}
        assert (
            account.ledger.read_json(keys.StageKeys(run_id, "adapt").attempt(0).registered)["news"] == is_new
        )


def test_register_fails_where_the_machine_can_see_it(
    account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    event = {"execution": account.execution("R1"), "state": settled(account, "R1")}
    monkeypatch.setenv("WINNOW_REGISTER_TABLE", "gone")
    with pytest.raises(RegisterUnavailable):
        call(register.handler, event)
    assert '"RegisterBehind":[1.0]' in capsys.readouterr().out


def test_alert_publishes_once(account: Account) -> None:
    attempt = keys.StageKeys(RUN_ID, "transform").attempt(3)
    account.ledger.write_json(attempt.alert, content().to_json())
    order = {
        "run_id": RUN_ID,
        "pipeline": "catalogue",
        "stage": "transform",
        "attempt": 3,
        "try_count": 3,
        "count": 9,
        "plan": {"bucket": "ledger", "key": "plan.json"},
        "policy": {},
    }
    event = {
        "execution": account.execution(RUN_ID),
        "state": {"verdict": "EXHAUSTED", "order": order, "alert": True},
    }
    assert call(alert.handler, event) == {"alerted": True}
    assert call(alert.handler, event) == {"alerted": False}
    (message,) = account.messages()
    assert "3 of 183,755 records lost" in message["Subject"]
    assert message["MessageAttributes"]["severity"]["Value"] == "error"


def test_alert_fails_where_the_machine_can_see_it(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WINNOW_ALERT_TOPIC_ARN")
    with pytest.raises(SettingsError, match="WINNOW_ALERT_TOPIC_ARN is not set"):
        call(
            alert.handler,
            {
                "execution": account.execution(RUN_ID),
                "state": {
                    "order": {
                        "run_id": RUN_ID,
                        "pipeline": "catalogue",
                        "stage": "transform",
                        "attempt": 0,
                        "try_count": 0,
                        "count": 0,
                        "plan": {"bucket": "b", "key": "k"},
                        "policy": {},
                    }
                },
            },
        )


def test_close_run_alerts_a_run_that_was_never_planned(account: Account) -> None:
    event = {
        "detail": {
            "executionArn": account.execution(RUN_ID),
            "name": RUN_ID,
            "status": "FAILED",
            "startDate": 1_800_000_000_000,
            "stopDate": 1_800_000_001_000,
            "input": "{}",
            "error": "StageInputError",
            "cause": "prefix: must begin with tei/",
        }
    }
    for sent in (["FAILED"], []):
        assert call(close_run.handler, event)["alerts"] == sent
    (message,) = account.messages()
    assert json.loads(message["Message"])["cause"] == "StageInputError: prefix: must begin with tei/"


def test_close_run_sweeps_up_a_run_of_which_no_event_came(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINNOW_PIPELINE_ARN", account.machine_arn)
    execution = account.stepfunctions.start_execution(
        stateMachineArn=account.machine_arn, name=RUN_ID, input="{}"
    )["executionArn"]
    account.stepfunctions.stop_execution(executionArn=execution, error="Operator", cause="stopped by hand")

    at_once = {"sweep": True, "older_than_seconds": 0}
    done = [call(close_run.handler, at_once, seconds=900) for _ in range(2)]

    assert done == [{"closed": 1, "failed": 0, "left": 0}, {"closed": 0, "failed": 0, "left": 0}]
    (message,) = account.messages()
    assert json.loads(message["Message"])["verdict"] == "ABORTED"


def publishes_works(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline publishes `works`, and nothing was published yet."""
    monkeypatch.setenv("WINNOW_PIPELINE_ARN", account.machine_arn)
    monkeypatch.setenv("WINNOW_PUBLISHED_BUCKET", "published")
    monkeypatch.setenv("WINNOW_PUBLICATION", "works")
    account.s3.create_bucket(Bucket="published")


def emitted_ages(said: str) -> list[float]:
    """Ages of what is published, by the lines of metrics that were printed."""
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return [age for line in lines for age in line.get("PublishedAgeSeconds", ())]


def test_a_sweep_measures_the_age_of_what_is_published(
    account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publishes_works(account, monkeypatch)
    call(close_run.handler, {"sweep": True}, seconds=900)
    assert emitted_ages(capsys.readouterr().out) == [], "nothing was published yet"

    began = datetime.now(UTC) - timedelta(hours=50)
    publish(
        PublishedSet(S3PublishedStore("published", account.s3), "works"),
        version(1, RUN_ID, began=began.isoformat()),
    )
    call(close_run.handler, {"sweep": True}, seconds=900)

    (age,) = emitted_ages(capsys.readouterr().out)
    assert timedelta(hours=50) <= timedelta(seconds=age) < timedelta(hours=51)


def test_a_pointer_that_cannot_be_read_keeps_no_run_from_being_swept_up(
    account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publishes_works(account, monkeypatch)
    account.s3.put_object(Bucket="published", Key="published/works/current.json", Body=b"{")

    done = call(close_run.handler, {"sweep": True}, seconds=900)

    assert done == {"closed": 0, "failed": 0, "left": 0}
    said = capsys.readouterr().out
    assert emitted_ages(said) == []
    assert '"WatchingFailed":[1' in said.replace(" ", "")


@pytest.mark.parametrize("value", [-1, "0", True, 300_000])
def test_close_run_refuses_a_sweep_that_does_not_say_how_old(
    account: Account, monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    monkeypatch.setenv("WINNOW_PIPELINE_ARN", account.machine_arn)
    with pytest.raises(
        StageInputError, match="older_than_seconds: must be a whole number from 0 to 259200, got: "
    ):
        call(close_run.handler, {"sweep": True, "older_than_seconds": value})


def test_slack_posts_what_the_topic_says(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    slack._courier.cache_clear()
    monkeypatch.setenv("WINNOW_SLACK_SECRET_ARN", "webhook")
    with FakeSlack().serve() as fake:
        account.secrets.create_secret(Name="webhook", SecretString=fake.url())
        record = {"Sns": {"MessageId": "m1", "Subject": "Subject", "Message": "hello"}}
        for _ in range(2):
            assert call(slack.handler, {"Records": [record]}) is None
    assert len(fake.received) == 1
    slack._courier.cache_clear()
