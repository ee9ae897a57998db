"""The policies for people: within IAM's limits however many stages there are, and apart from other pipelines."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from aws_cdk import App, Stack
from aws_cdk.assertions import Template

from stacks.constructs.people import MAX_POLICY_CHARS
from stacks.constructs.pipeline import Pipeline
from stacks.constructs.source_bucket import SourceBucket
from stacks.constructs.stage import Stage
from tests.stacks.conftest import EVERYTHING_ON
from tests.stacks.synthesized import Synthesized, allowed, statements

if TYPE_CHECKING:
    from collections.abc import Callable

    from stacks.settings import EnvironmentSettings

ACCOUNTS_OWN = {
    "cloudformation:DescribeStacks",
    "cloudwatch:DescribeAlarmHistory",
    "cloudwatch:DescribeAlarms",
    "lambda:GetAccountSettings",
    "logs:DescribeResourcePolicies",
    "servicequotas:ListServiceQuotas",
}
"""Actions that name no resource."""
CHANGES = re.compile(r":(Put|Delete|Start|Stop|Set|Publish|Update|Create|Attach|Invoke|Send|Tag)")


def policies(template: Synthesized, name: str) -> list[dict[str, Any]]:
    found = template.properties("AWS::IAM::ManagedPolicy")
    return [each["PolicyDocument"] for key, each in found.items() if f"People{name}" in key]


def actions(template: Synthesized, name: str) -> set[str]:
    return {
        action
        for document in policies(template, name)
        for each in statements(document)
        for action in each.actions
    }


def test_a_viewer_can_change_nothing(prod: Synthesized) -> None:
    assert [action for action in actions(prod, "Viewer") if CHANGES.search(action)] == []
    assert "secretsmanager:GetSecretValue" not in actions(prod, "Viewer")
    assert actions(prod, "Viewer") < actions(prod, "Operator")


def test_nobody_can_change_or_delete_what_a_run_has_left(prod: Synthesized) -> None:
    forbidden = {
        "s3:PutLifecycleConfiguration",
        "states:StopExecution",
        "dynamodb:DeleteTable",
    }
    assert not forbidden & actions(prod, "Operator")
    found = [each for document in policies(prod, "Operator") for each in statements(document)]
    published = prod.the("AWS::S3::Bucket", "Published")
    written = {each for each in allowed(found, "s3:PutObject") if published not in each}
    assert {resource.partition(".Arn>/")[2] for resource in written} == {
        "runs/*/source.ndjson",
        "runs/*/*/input.ndjson",
        "replays/*",
        "tei/*",
    }
    assert all(published in each for each in allowed(found, "s3:DeleteObject"))
    assert not any("*" in action for action in actions(prod, "Operator"))


def test_only_what_has_no_resources_is_allowed_on_all(prod: Synthesized) -> None:
    for document in policies(prod, "Operator"):
        for each in statements(document):
            if "*" in each.resources:
                assert each.actions <= ACCOUNTS_OWN


def test_people_touch_no_other_pipeline(prod: Synthesized) -> None:
    elsewhere = [
        resource
        for document in policies(prod, "Operator")
        for each in statements(document)
        if not each.actions & {"iam:SimulatePrincipalPolicy", "iam:GetRole", "ssm:GetParameter"}
        for resource in each.resources - {"*"}
        if not re.search(r"<\w*[a-z]\w*\.\w+>|<Catalogue\w+>|<AWS::StackName>|winnow/slack-webhook", resource)
    ]
    assert elsewhere == []


@pytest.mark.parametrize(("stages", "most"), [(1, 2), (3, 2), (40, 8)])
def test_no_policy_is_longer_than_iam_takes(
    stages: int, most: int, configured: Callable[[str], EnvironmentSettings], context: dict[str, Any]
) -> None:
    app = App(context=context, builtin_cloud_formation_validation=False)
    stack = Stack(app, "long-name-of-a-stack-prod")
    settings = replace(configured("prod"), **EVERYTHING_ON)
    names = [f"stage-with-a-name-{number}" for number in range(stages)]
    Pipeline(
        stack,
        "PipelineWithALongName",
        name="long",
        settings=settings,
        source=SourceBucket(stack, "Source", settings=settings),
        stages=[Stage.of(name, worker="catalogue.mint.mint") for name in names],
    )
    template = Synthesized(dict(Template.from_stack(stack).to_json()))

    for name in ("Viewer", "Operator"):
        documents = policies(template, name)
        assert len(documents) <= most
        for document in documents:
            assert _rendered_chars(document) <= MAX_POLICY_CHARS
        arns = template.template["Outputs"][f"{name}PolicyArns"]["Value"]
        assert json.dumps(arns).count('"Ref"') == len(documents)


def _rendered_chars(document: dict[str, Any]) -> int:
    """The length of a document with references as long as AWS makes them."""

    def render(value: Any) -> Any:
        match value:
            case {"Fn::Join": [str(separator), list(parts)]}:
                return separator.join(map(render, parts))
            case {"Fn::GetAtt": _}:
                return "a" * 125
            case {"Ref": str(name)}:
                return "a" * (14 if name.startswith("AWS::") and name != "AWS::StackId" else 125)
            case {"Fn::Select": _} | {"Fn::Split": _} | {"Fn::Sub": _}:
                return "a" * 80
            case dict():
                return {key: render(each) for key, each in value.items()}
            case list():
                return [render(each) for each in value]
        return value

    return len(json.dumps(render(document), separators=(",", ":")))
