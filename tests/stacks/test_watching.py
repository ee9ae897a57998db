"""Who hears of what in the example: alerts, alarms, and that watching is broken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.stacks.synthesized import OWN_HANDLERS, Synthesized, allowed
from winnow.metrics.watch import Metric, Watch

ALARMS = ("RunFailed", "RunTimedOut", "RunAborted", "RunRefused")


def test_a_failed_run_is_one_message(prod: Synthesized) -> None:
    """The run closer sends it, so the alarms on the same failure send no notification."""
    for name, alarm in prod.properties("AWS::CloudWatch::Alarm").items():
        silent = any(each in name for each in ALARMS)
        assert ("AlarmActions" not in alarm) == silent, name


def test_missing_data_is_no_alarm_but_the_dead_mans(prod: Synthesized) -> None:
    for name, alarm in prod.properties("AWS::CloudWatch::Alarm").items():
        expected = "breaching" if "NoSuccess" in name else "notBreaching"
        assert alarm["TreatMissingData"] == expected, name


def alarm(template: Synthesized, containing: str) -> dict[str, Any]:
    found: dict[str, Any] = template.properties("AWS::CloudWatch::Alarm")[
        template.the("AWS::CloudWatch::Alarm", containing)
    ]
    return found


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("RunRefused", Metric.RUN_REFUSED),
        ("NotConserved", Metric.CONSERVATION_VIOLATION),
        ("NoSuccess", Metric.RUN_SUCCEEDED),
    ],
)
def test_alarms_on_counts_look_where_the_functions_count(
    prod: Synthesized, capsys: pytest.CaptureFixture[str], name: str, metric: Metric
) -> None:
    watch = Watch(environment="prod", pipeline="catalogue")
    watch.count(metric)
    watch.flush()
    emitted = json.loads(capsys.readouterr().out)
    [where] = emitted["_aws"]["CloudWatchMetrics"]
    [dimensions] = where["Dimensions"]

    looked_at = alarm(prod, name)

    assert (looked_at["Namespace"], looked_at["MetricName"]) == (
        where["Namespace"],
        where["Metrics"][0]["Name"],
    )
    assert {each["Name"]: each["Value"] for each in looked_at["Dimensions"]} == {
        dimension: emitted[dimension] for dimension in dimensions
    }
    assert looked_at["Statistic"] == "Sum"


def test_a_ledger_that_does_not_add_up_is_an_alarm_that_people_hear(prod: Synthesized) -> None:
    found = alarm(prod, "NotConserved")

    assert (found["Threshold"], found["EvaluationPeriods"]) == (1, 1)
    assert found["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
    assert found["AlarmActions"] == [{"Ref": prod.the("AWS::SNS::Topic", "AlertsTopic")}]


def test_people_hear_when_nothing_succeeds_for_long(prod: Synthesized, local: Synthesized) -> None:
    found = alarm(prod, "NoSuccess")

    assert (found["Period"], found["EvaluationPeriods"], found["DatapointsToAlarm"]) == (3600, 30, 30)
    assert (found["ComparisonOperator"], found["Threshold"]) == ("LessThanThreshold", 1)
    assert found["AlarmActions"] == [{"Ref": prod.the("AWS::SNS::Topic", "AlertsTopic")}]
    assert not [name for name in local.resources("AWS::CloudWatch::Alarm") if "NoSuccess" in name]


def test_alerts_go_to_email_and_slack_as_configured(prod: Synthesized, local: Synthesized) -> None:
    def protocols(template: Synthesized) -> list[str]:
        return sorted(each["Protocol"] for each in template.properties("AWS::SNS::Subscription").values())

    assert protocols(prod) == ["email", "email", "lambda"]
    assert protocols(local) == ["lambda"]


def subscribers(template: Synthesized, topic: str) -> list[str]:
    ref = {"Ref": template.the("AWS::SNS::Topic", topic)}
    return sorted(
        each["Protocol"]
        for each in template.properties("AWS::SNS::Subscription").values()
        if each["TopicArn"] == ref
    )


def notified(template: Synthesized) -> dict[str, list[str]]:
    """Topics that alarms publish to, by the alarm's logical id."""
    return {
        name: [action["Ref"] for action in each.get("AlarmActions", ())]
        for name, each in template.properties("AWS::CloudWatch::Alarm").items()
    }


def test_that_watching_is_broken_is_told_without_slack(prod: Synthesized) -> None:
    topic = prod.the("AWS::SNS::Topic", "AlertsWatchTopic")
    told = {name: topics for name, topics in notified(prod).items() if topics == [topic]}

    assert subscribers(prod, "AlertsWatchTopic") == ["email"]
    for broken in (
        "AlertErrors",
        "CloseRunErrors",
        *(f"{name}DeadLetters" for name in ("StartRun", "CloseRun", "Slack")),
    ):
        assert any(broken in name for name in told), broken


def test_every_dead_letter_is_told(prod: Synthesized) -> None:
    queues = {name for name in prod.resources("AWS::SQS::Queue") if "DeadLetters" in name}
    watched = {
        dimension["Value"]["Fn::GetAtt"][0]
        for name, alarm in prod.properties("AWS::CloudWatch::Alarm").items()
        for dimension in alarm.get("Dimensions", ())
        if dimension["Name"] == "QueueName" and notified(prod)[name]
    }

    assert watched == queues


def test_slack_hears_that_watching_is_broken_where_no_mail_does(local: Synthesized) -> None:
    both = [local.the("AWS::SNS::Topic", f"Alerts{each}") for each in ("WatchTopic", "Topic")]

    assert subscribers(local, "AlertsWatchTopic") == []
    assert both in notified(local).values()
    assert set(map(tuple, notified(local).values())) <= {(), (both[1],), tuple(both)}


@pytest.mark.parametrize("name", ["alert", "close_run", "start_run"])
def test_who_alerts_may_use_the_key_of_the_topic(prod: Synthesized, name: str) -> None:
    permissions = prod.permissions(OWN_HANDLERS[name])

    assert "Alerts" in prod.variables(OWN_HANDLERS[name])["WINNOW_ALERT_TOPIC_ARN"]["Ref"]
    assert allowed(permissions, "sns:Publish") == {f"<{prod.the('AWS::SNS::Topic', 'AlertsTopic')}>"}
    assert allowed(permissions, "kms:GenerateDataKey") == {f"<{prod.the('AWS::KMS::Key', 'Alerts')}.Arn>"}
