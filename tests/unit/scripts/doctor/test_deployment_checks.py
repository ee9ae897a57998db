"""Checks of a deployed stack: names, status, protection, resources, permissions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.doctor.deployment import names, protection, resources
from scripts.doctor.deployment import stack as stack_check
from scripts.doctor.examination import examine
from scripts.doctor.finding import Finding, FindingStatus
from scripts.doctor.permissions import permissions
from tests.unit.scripts.doctor.accounts import ACCOUNT, IDENTITY, aws_error, clone, context, denied, stack

OK, WARNING = FindingStatus.OK, FindingStatus.WARNING
FAILED, SKIPPED = FindingStatus.FAILED, FindingStatus.SKIPPED

PROD = stack(StackName="books-prod", outputs={"Environment": "prod"})
TWIN = stack(StackName="books-copy")
FOREIGN = {"StackName": "CDKToolkit", "StackStatus": "CREATE_COMPLETE"}


@pytest.mark.parametrize(
    ("stacks", "status", "what"),
    [
        ([], OK, "pipelines here: none yet"),
        ([FOREIGN, stack(), PROD], OK, "pipelines here: books (dev), books (prod)"),
        (
            [stack(), TWIN],
            FAILED,
            "stacks books-copy and books-dev both hold pipeline books of environment dev",
        ),
    ],
)
def test_no_two_stacks_hold_the_same_pipeline(
    stacks: list[dict[str, Any]], status: FindingStatus, what: str
) -> None:
    finding = examine(names, context(stacks=stacks))
    assert (finding.status, finding.what) == (status, what)


@pytest.mark.parametrize(
    ("stack_status", "status", "what"),
    [
        ("CREATE_COMPLETE", OK, "books-dev is CREATE_COMPLETE"),
        ("UPDATE_COMPLETE", OK, "books-dev is UPDATE_COMPLETE"),
        ("UPDATE_IN_PROGRESS", WARNING, "books-dev is UPDATE_IN_PROGRESS"),
        (
            "UPDATE_ROLLBACK_COMPLETE",
            WARNING,
            "books-dev is UPDATE_ROLLBACK_COMPLETE: the last deploy failed, and what was there before runs on",
        ),
        ("UPDATE_ROLLBACK_FAILED", FAILED, "books-dev is UPDATE_ROLLBACK_FAILED"),
        ("DELETE_FAILED", FAILED, "books-dev is DELETE_FAILED"),
    ],
)
def test_the_status_of_the_stack_is_told(stack_status: str, status: FindingStatus, what: str) -> None:
    finding = examine(stack_check, context(stacks=[stack(StackStatus=stack_status)]))
    assert (finding.status, finding.what) == (status, what)
    events = "aws cloudformation describe-stack-events --stack-name books-dev"
    assert finding.command.startswith(events if "ROLLBACK" in stack_status or status is FAILED else "")


def test_a_first_deploy_that_failed_has_no_outputs_and_is_found_all_the_same() -> None:
    failed = {
        **stack(StackStatus="ROLLBACK_COMPLETE", StackStatusReason="The following resource(s) failed"),
        "Outputs": [],
    }
    finding = examine(stack_check, context(stacks=[FOREIGN, failed]))
    assert finding.status is FAILED
    assert finding.what == (
        "books-dev is ROLLBACK_COMPLETE: its first deploy failed: The following resource(s) failed"
    )
    assert "delete it" in finding.remedy


def test_before_the_first_deploy_the_stack_is_skipped_with_the_command_that_deploys_it() -> None:
    finding = examine(stack_check, context(stacks=[PROD]))
    assert finding == Finding.skipped(
        "not deployed yet", "When all above is well, deploy it:", "npx cdk deploy -c environment=dev"
    )


@pytest.mark.parametrize(
    ("environment", "command"), [("local", "winnow local up"), ("prod", "npx cdk deploy -c environment=prod")]
)
def test_on_an_emulator_each_environment_is_deployed_by_its_own_command(
    environment: str, command: str
) -> None:
    assert examine(stack_check, context(stacks=[], environment=environment, is_local=True)).command == command


def test_who_may_not_see_stacks_is_told_that_nothing_works_without() -> None:
    finding = examine(
        stack_check, context({"cloudformation.describe_stacks": denied("cloudformation:DescribeStacks")})
    )
    assert finding.status is FAILED
    assert finding.what == (
        "you lack the permission cloudformation:DescribeStacks, without which no command finds a pipeline"
    )


@pytest.mark.parametrize(
    ("removal", "protected", "status", "what"),
    [
        ("retain", True, OK, "termination protection is on, removal: retain"),
        ("destroy", False, OK, "termination protection is off, removal: destroy"),
        (
            "retain",
            False,
            WARNING,
            "data is kept (removal: retain), but the stack can be deleted by one command",
        ),
    ],
)
def test_what_is_to_stay_is_protected(
    *, removal: str, protected: bool, status: FindingStatus, what: str, tmp_path: Path
) -> None:
    root = clone(tmp_path, removal=removal)
    finding = examine(protection, context(stacks=[stack(EnableTerminationProtection=protected)], root=root))
    assert (finding.status, finding.what) == (status, what)


def for_one(name: str, answer: Any, otherwise: Any) -> Callable[..., Any]:
    """An answer for the resource of a name, and another for all others."""
    return lambda **arguments: answer if name in arguments.values() else otherwise


ALL_THERE: dict[str, Any] = {
    "s3.head_bucket": {},
    "dynamodb.describe_table": {"Table": {"TableStatus": "ACTIVE"}},
    "stepfunctions.describe_state_machine": {"status": "ACTIVE"},
    "lambda.get_function_configuration": {"State": "Inactive", "LastUpdateStatus": "Successful"},
}
WORKING = {"State": "Active"}


@pytest.mark.parametrize(
    ("changes", "status", "what"),
    [
        ({}, OK, "all 9 that the outputs name are there and active"),
        (
            {"s3.head_bucket": for_one("source", aws_error("404"), {})},
            FAILED,
            "bucket source does not exist",
        ),
        (
            {
                "dynamodb.describe_table": for_one(
                    "state", aws_error("ResourceNotFoundException"), {"Table": {"TableStatus": "DELETING"}}
                )
            },
            FAILED,
            "table state does not exist; table register is DELETING",
        ),
        (
            {"stepfunctions.describe_state_machine": aws_error("StateMachineDoesNotExist")},
            FAILED,
            "machine books does not exist; machine clean does not exist; machine index does not exist",
        ),
        (
            {"lambda.get_function_configuration": for_one("clean-worker", {"State": "Failed"}, WORKING)},
            FAILED,
            "function clean-worker is Failed",
        ),
        (
            {
                "lambda.get_function_configuration": for_one(
                    "clean-worker",
                    {"LastUpdateStatus": "Failed", "LastUpdateStatusReason": "no such image"},
                    WORKING,
                )
            },
            FAILED,
            "function clean-worker is of an update that failed: no such image",
        ),
        (
            {"s3.head_bucket": aws_error("403", "Forbidden", "HeadBucket")},
            WARNING,
            "7 are there and active; the others you may not see: to call HeadBucket",
        ),
        (
            {"dynamodb.describe_table": denied("dynamodb:DescribeTable")},
            WARNING,
            "7 are there and active; the others you may not see: dynamodb:DescribeTable",
        ),
    ],
)
def test_what_the_outputs_name_is_there(changes: dict[str, Any], status: FindingStatus, what: str) -> None:
    finding = examine(resources, context({**ALL_THERE, **changes}))
    assert (finding.status, finding.what) == (status, what)


ROLE = {"Role": {"Arn": f"arn:aws:iam::{ACCOUNT}:role/people/operators"}}


def decisions(denied_action: str = "", **specific: str) -> Callable[..., Any]:
    def simulate(*, ActionNames: list[str], ResourceArns: list[str], **_: Any) -> dict[str, Any]:  # noqa: N803 boto3's names
        assert all(arn == "*" or arn.startswith("arn:aws:") for arn in ResourceArns)
        results: list[dict[str, Any]] = [
            {"EvalActionName": name, "EvalDecision": "implicitDeny" if name == denied_action else "allowed"}
            for name in ActionNames
        ]
        for result in results:
            if decision := specific.get(result["EvalActionName"].partition(":")[2]):
                result["ResourceSpecificResults"] = [
                    {"EvalResourceDecision": "allowed"},
                    {"EvalResourceDecision": decision},
                ]
        return {"EvaluationResults": results}

    return simulate


@pytest.mark.parametrize(
    ("simulation", "status", "what"),
    [
        (decisions(), OK, "you may do all that the command line does"),
        (
            decisions("states:StartExecution"),
            WARNING,
            "you may not do all that the command line does: states:StartExecution",
        ),
        (
            decisions(ListBucket="explicitDeny"),
            WARNING,
            "you may not do all that the command line does: s3:ListBucket",
        ),
        (
            denied("iam:SimulatePrincipalPolicy"),
            WARNING,
            "not examined: you lack the permission iam:SimulatePrincipalPolicy",
        ),
        (
            aws_error("NoSuchEntity"),
            SKIPPED,
            f"IAM's simulator does not know arn:aws:iam::{ACCOUNT}:role/people/operators",
        ),
    ],
)
def test_what_the_command_line_does_is_simulated(simulation: Any, status: FindingStatus, what: str) -> None:
    finding = examine(
        permissions, context({"iam.get_role": ROLE, "iam.simulate_principal_policy": simulation})
    )
    assert finding.status is status
    assert finding.what.startswith(what)


@pytest.mark.parametrize(
    ("me", "role", "principal"),
    [
        (f"arn:aws:iam::{ACCOUNT}:user/me", None, f"arn:aws:iam::{ACCOUNT}:user/me"),
        (
            f"arn:aws:sts::{ACCOUNT}:assumed-role/operators/me",
            ROLE,
            f"arn:aws:iam::{ACCOUNT}:role/people/operators",
        ),
        (
            f"arn:aws:sts::{ACCOUNT}:assumed-role/operators/me",
            denied("iam:GetRole"),
            f"arn:aws:iam::{ACCOUNT}:role/operators",
        ),
    ],
)
def test_the_simulator_is_asked_about_the_user_or_the_role_of_a_session(
    me: str, role: Any, principal: str
) -> None:
    asked = set()

    def simulate(*, PolicySourceArn: str, **arguments: Any) -> dict[str, Any]:  # noqa: N803 boto3's name
        asked.add(PolicySourceArn)
        answer: dict[str, Any] = decisions()(**arguments)
        return answer

    answers = {
        "sts.get_caller_identity": {**IDENTITY, "Arn": me},
        "iam.get_role": role,
        "iam.simulate_principal_policy": simulate,
    }
    assert examine(permissions, context(answers)).status is OK
    assert asked == {principal}


@pytest.mark.parametrize(
    ("me", "why"),
    [
        (f"arn:aws:iam::{ACCOUNT}:root", "the account's root user may do everything; use a role instead"),
        (
            f"arn:aws:sts::{ACCOUNT}:federated-user/me",
            f"IAM's simulator knows users and roles, not arn:aws:sts::{ACCOUNT}:federated-user/me",
        ),
    ],
)
def test_who_the_simulator_does_not_know_is_skipped(me: str, why: str) -> None:
    finding = examine(permissions, context({"sts.get_caller_identity": {**IDENTITY, "Arn": me}}))
    assert finding == Finding.skipped(why)
