"""What starts and what ends a run of the example."""

from __future__ import annotations

import json
from typing import Any

from stacks.constructs.triggers import GATHERING_SECONDS
from stacks.settings import LONGEST_WINDOW_SECONDS
from tests.stacks.synthesized import OWN_HANDLERS, Synthesized, allowed
from winnow.storage.window_queue import MAX_DELAY_SECONDS


def test_a_run_starts_on_request_on_schedule_and_on_arrival(prod: Synthesized) -> None:
    rules = prod.properties("AWS::Events::Rule")
    requested = rules[prod.the("AWS::Events::Rule", "RunRequested")]
    arrived = rules[prod.the("AWS::Events::Rule", "ObjectCreated")]

    assert requested["EventPattern"] == {
        "source": ["winnow"],
        "detail-type": ["Run requested"],
        "detail": {"pipeline": ["catalogue"], "environment": ["prod", {"exists": False}]},
    }
    assert rules[prod.the("AWS::Events::Rule", "Schedule")]["ScheduleExpression"] == "cron(0 2 * * ? *)"
    assert arrived["EventPattern"]["detail"]["object"] == {"key": [{"prefix": "tei/"}]}
    assert "Source" in arrived["EventPattern"]["detail"]["bucket"]["name"][0]["Ref"]


def test_objects_that_arrive_are_gathered_soon_and_by_few_at_once(prod: Synthesized) -> None:
    mapping, queue = mapped(prod, "Arrivals")

    assert mapping["FunctionName"] == {"Ref": prod.handlers()[OWN_HANDLERS["start_run"]]}
    assert mapping["MaximumBatchingWindowInSeconds"] == 5, "it is no window: five pollers have one each"
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 10}
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert queue["VisibilityTimeout"] >= 6 * prod.function(OWN_HANDLERS["start_run"])["Timeout"] + 5


def test_a_window_is_closed_by_a_message_that_is_held_back(prod: Synthesized) -> None:
    mapping, queue = mapped(prod, "Windows")

    assert mapping["FunctionName"] == {"Ref": prod.handlers()[OWN_HANDLERS["close_window"]]}
    assert mapping["BatchSize"] == 1
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert queue["VisibilityTimeout"] >= 6 * prod.function(OWN_HANDLERS["close_window"])["Timeout"]
    name = prod.the("AWS::SQS::Queue", "Windows")
    for handler in (OWN_HANDLERS["start_run"], OWN_HANDLERS["close_window"]):
        assert allowed(prod.permissions(handler), "sqs:SendMessage") >= {f"<{name}.Arn>"}
        assert prod.variables(handler)["WINNOW_WINDOW_QUEUE_URL"] == {"Ref": name}
        assert prod.variables(handler)["WINNOW_WINDOW_SECONDS"] == "65", "the last arrivals are gathered, too"


def mapped(template: Synthesized, queue: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The event source mapping of a queue, and the queue."""
    name = template.the("AWS::SQS::Queue", queue)
    (mapping,) = (
        each
        for each in template.properties("AWS::Lambda::EventSourceMapping").values()
        if each["EventSourceArn"] == {"Fn::GetAtt": [name, "Arn"]}
    )
    return mapping, template.properties("AWS::SQS::Queue")[name]


def test_what_cannot_be_gathered_or_closed_is_kept_and_alarmed(prod: Synthesized) -> None:
    dead_letters = prod.the("AWS::SQS::Queue", "TriggersDeadLetters")
    for name in ("Arrivals", "Windows"):
        _, queue = mapped(prod, name)
        assert queue["RedrivePolicy"]["maxReceiveCount"] == 5
        assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": [dead_letters, "Arn"]}
        assert queue["SqsManagedSseEnabled"] is True
    watched = prod.properties("AWS::CloudWatch::Alarm")[
        prod.the("AWS::CloudWatch::Alarm", "StartRunDeadLetters")
    ]
    assert watched["Dimensions"][0]["Value"] == {"Fn::GetAtt": [dead_letters, "QueueName"]}


def test_windows_are_gathered_and_closed_in_the_state_table_and_the_ledger(
    prod: Synthesized, ledger: str
) -> None:
    state = f"<{prod.the('AWS::DynamoDB::GlobalTable', 'State')}.Arn>"
    gatherer, closer = (
        prod.permissions(OWN_HANDLERS["start_run"]),
        prod.permissions(OWN_HANDLERS["close_window"]),
    )

    for permissions in (gatherer, closer):
        for action in ("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"):
            assert allowed(permissions, action) == {state}
        assert allowed(permissions, "s3:PutObject") == {f"{ledger}/runs/*"}
    assert allowed(gatherer, "dynamodb:BatchGetItem") == set()
    assert allowed(closer, "dynamodb:BatchGetItem") == {state}
    assert f"{ledger}/runs/*" in allowed(closer, "s3:GetObject")
    assert ledger in allowed(closer, "s3:ListBucket"), "without it S3 answers 403 for a missing object"
    machine = prod.the("AWS::StepFunctions::StateMachine", "CatalogueMachine")
    assert allowed(closer, "states:StartExecution") == {f"<{machine}>"}
    assert allowed(closer, "states:DescribeExecution")


def test_the_longest_window_is_one_that_sqs_can_hold_back() -> None:
    assert LONGEST_WINDOW_SECONDS + GATHERING_SECONDS <= MAX_DELAY_SECONDS


def test_the_command_line_is_told_whether_arrivals_start_runs(prod: Synthesized, local: Synthesized) -> None:
    assert prod.template["Outputs"]["ArrivalsWindowSeconds"]["Value"] == "60"
    assert "ArrivalsWindowSeconds" not in local.template["Outputs"]


def test_nothing_starts_by_itself_unless_configured(local: Synthesized) -> None:
    assert [
        name for name in local.resources("AWS::Events::Rule") if "Schedule" in name or "ObjectCreated" in name
    ] == []
    assert local.resources("AWS::Lambda::EventSourceMapping") == {}
    assert OWN_HANDLERS["close_window"] not in local.handlers()


def test_the_run_closer_hears_of_every_end_of_this_pipeline_only(prod: Synthesized) -> None:
    rule = prod.properties("AWS::Events::Rule")[prod.the("AWS::Events::Rule", "RunEnded")]
    detail = rule["EventPattern"]["detail"]

    assert sorted(detail["status"]) == ["ABORTED", "FAILED", "SUCCEEDED", "TIMED_OUT"]
    assert detail["stateMachineArn"] == [
        {"Ref": prod.the("AWS::StepFunctions::StateMachine", "CatalogueMachine")}
    ]


def test_runs_of_which_no_event_came_are_looked_for_every_hour(prod: Synthesized) -> None:
    rule = prod.properties("AWS::Events::Rule")[prod.the("AWS::Events::Rule", "Sweep")]
    machine = prod.the("AWS::StepFunctions::StateMachine", "CatalogueMachine")
    permissions = prod.permissions(OWN_HANDLERS["close_run"])

    assert rule["ScheduleExpression"] == "rate(1 hour)"
    [target] = rule["Targets"]
    assert json.loads(target["Input"]) == {"sweep": True}
    assert target["Arn"]["Fn::GetAtt"][0] == prod.handlers()[OWN_HANDLERS["close_run"]]
    assert prod.variables(OWN_HANDLERS["close_run"])["WINNOW_PIPELINE_ARN"] == {"Ref": machine}
    assert allowed(permissions, "states:ListExecutions") == {f"<{machine}>"}
    (executions,) = allowed(permissions, "states:DescribeExecution")
    assert executions.endswith(f":execution:<{machine}.Name>:*")


def test_every_delivery_of_an_event_that_fails_is_kept(prod: Synthesized) -> None:
    for name, rule in prod.properties("AWS::Events::Rule").items():
        for target in rule["Targets"]:
            assert target["DeadLetterConfig"]["Arn"], name
