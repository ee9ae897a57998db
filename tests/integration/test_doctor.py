"""`winnow doctor` and `winnow alert test`, on a deployment: all is well, and what is broken is found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scripts.doctor.stack import find_resources
from tests.integration.conftest import Deployment
from tests.patience import PATIENCE_SECONDS

SECRET = "winnow/slack-webhook"


def look(deployment: Deployment) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code of the doctor, and its findings by name."""
    done = deployment.winnow("doctor", "--json")
    assert done.stdout.count("\n") == 1, done.stderr
    return done.returncode, {each["name"]: each for each in json.loads(done.stdout)["checks"]}


def physical_id(deployment: Deployment, resource_type: str, logical_id: str) -> str:
    """Of the one resource of a type whose logical id begins so."""
    made = find_resources(deployment.target.client("cloudformation"), "catalogue-local")
    [found] = [
        each.physical_id
        for each in made
        if each.type == resource_type and each.logical_id.startswith(logical_id)
    ]
    return found


def test_after_a_deploy_all_is_well(deployment: Deployment) -> None:
    code, found = look(deployment)
    # Which tools are installed is up to the machine; the emulator has no quotas, and its one caller is root.
    assert {name for name, each in found.items() if each["status"] == "skipped"} == {
        "executions",
        "permissions",
    }
    rest = {name: each for name, each in found.items() if each["status"] not in {"ok", "skipped"}}
    assert code == 0, rest
    assert set(rest) <= {"tools"}


@contextmanager
def secret_deleted(deployment: Deployment) -> Iterator[None]:
    secrets = deployment.target.client("secretsmanager")
    address = secrets.get_secret_value(SecretId=SECRET)["SecretString"]
    secrets.delete_secret(SecretId=SECRET, ForceDeleteWithoutRecovery=True)
    try:
        yield
    finally:
        secrets.create_secret(Name=SECRET, SecretString=address)


@contextmanager
def rule_disabled(deployment: Deployment) -> Iterator[None]:
    events, name = (
        deployment.target.client("events"),
        physical_id(deployment, "AWS::Events::Rule", "CatalogueTriggersRunRequested"),
    )
    events.disable_rule(Name=name)
    try:
        yield
    finally:
        events.enable_rule(Name=name)


@contextmanager
def dead_letter_waiting(deployment: Deployment) -> Iterator[None]:
    sqs, url = (
        deployment.target.client("sqs"),
        physical_id(deployment, "AWS::SQS::Queue", "CatalogueTriggersDeadLetters"),
    )
    sqs.send_message(QueueUrl=url, MessageBody="an event that started nothing")
    try:
        yield
    finally:
        sqs.purge_queue(QueueUrl=url)


@contextmanager
def alarm_ringing(deployment: Deployment) -> Iterator[None]:
    cloudwatch, name = (
        deployment.target.client("cloudwatch"),
        physical_id(deployment, "AWS::CloudWatch::Alarm", "CatalogueMonitoringRunAborted"),
    )
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a test")
    try:
        yield
    finally:
        cloudwatch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="a test")


def test_what_is_broken_is_found_and_nothing_else(deployment: Deployment) -> None:
    with (
        secret_deleted(deployment),
        rule_disabled(deployment),
        dead_letter_waiting(deployment),
        alarm_ringing(deployment),
    ):
        code, found = look(deployment)
    assert code == 1
    assert {name for name, each in found.items() if each["status"] == "failed"} == {
        "slack secret",
        "triggers",
        "dead letters",
    }
    assert found["slack secret"]["what"] == f"there is no secret {SECRET}"
    assert found["triggers"]["what"].endswith('rules switched off: "A run of catalogue is asked for"')
    assert found["dead letters"]["what"].startswith("messages wait that could not be delivered: 1 in ")
    assert (found["alarms"]["status"], "A run ended as Aborted" in found["alarms"]["what"]) == (
        "warning",
        True,
    )


def test_a_run_that_was_closed_is_seen(deployment: Deployment) -> None:
    deployment.run("--source", "tests/data/corrections")
    _, found = look(deployment)
    assert found["runs"]["status"] == "ok", found["runs"]
    assert "none" not in found["runs"]["what"]


def test_a_test_alert_arrives_as_real_ones_do(deployment: Deployment) -> None:
    done = deployment.winnow("alert", "test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok alerts: Slack arrived after" in " ".join(done.stdout.split())
    # Alerts of other tests' runs may be before it.
    for message in iter(lambda: deployment.slack.receive(1, within_seconds=PATIENCE_SECONDS), []):
        if "a test of the alerts" in message[0]["text"]:
            break
    else:
        raise AssertionError("Slack got no test alert")
    assert message[0]["text"] == "[local] catalogue: a test of the alerts; nothing is wrong"
