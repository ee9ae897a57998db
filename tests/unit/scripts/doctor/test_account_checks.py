"""Checks of the account: credentials, clock, bootstrap, quotas, log policies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError

from scripts.doctor.account import bootstrap, clock, credentials
from scripts.doctor.examination import examine
from scripts.doctor.finding import Finding, FindingStatus
from scripts.doctor.quotas import concurrency, executions, log_policies
from tests.unit.scripts.doctor.accounts import (
    DATE,
    IDENTITY,
    ME,
    NOW,
    aws_error,
    clone,
    context,
    denied,
)

OK, WARNING = FindingStatus.OK, FindingStatus.WARNING
FAILED, SKIPPED = FindingStatus.FAILED, FindingStatus.SKIPPED


@pytest.mark.parametrize(
    ("error", "what", "command"),
    [
        (
            NoCredentialsError(),
            "no credentials that work: Unable to locate credentials",
            "aws configure list",
        ),
        (aws_error("ExpiredToken"), "the credentials have expired", "aws sso login"),
        (
            aws_error("InvalidClientTokenId", "The security token is invalid.", "GetCallerIdentity"),
            (
                "AWS does not take the credentials: An error occurred (InvalidClientTokenId) when calling the "
                "GetCallerIdentity operation: The security token is invalid."
            ),
            "aws configure list",
        ),
        (
            EndpointConnectionError(endpoint_url="https://sts.example.com"),
            'no credentials that work: Could not connect to the endpoint URL: "https://sts.example.com"',
            "aws configure list",
        ),
    ],
)
def test_credentials_that_do_not_work_are_told_in_one_line(error: Exception, what: str, command: str) -> None:
    finding = examine(credentials, context({"sts.get_caller_identity": error}))
    assert (finding.status, finding.what, finding.command) == (FAILED, what, command)


@pytest.mark.parametrize(
    ("account", "status", "what"),
    [
        (None, OK, f"account 123456789012, as {ME}"),
        ("123456789012", OK, f"account 123456789012, as {ME}"),
        (
            "210987654321",
            FAILED,
            "they are of account 123456789012, and cdk.json deploys dev to 210987654321",
        ),
    ],
)
def test_credentials_are_of_the_account_that_cdk_json_names(
    account: str | None, status: FindingStatus, what: str, tmp_path: Path
) -> None:
    finding = examine(credentials, context(root=clone(tmp_path, account=account)))
    assert (finding.status, finding.what) == (status, what)


def test_wrong_settings_do_not_hide_who_we_are(tmp_path: Path) -> None:
    finding = examine(credentials, context(root=clone(tmp_path, account="dev")))
    assert finding == Finding.ok(f"account 123456789012, as {ME}")


@pytest.mark.parametrize(
    ("ahead", "status", "what"),
    [
        (0, OK, "this machine's clock agrees with AWS's"),
        (-59, OK, "this machine's clock agrees with AWS's"),
        (62, WARNING, "this machine's clock is 62 s ahead of AWS's"),
        (-62, WARNING, "this machine's clock is 62 s behind AWS's"),
        (301, FAILED, "this machine's clock is 301 s ahead of AWS's; AWS refuses requests beyond 300 s"),
    ],
)
def test_the_clock_is_compared_with_that_of_an_answer(ahead: float, status: FindingStatus, what: str) -> None:
    finding = examine(clock, context(clock=lambda: NOW + 0.5 + ahead))
    assert (finding.status, finding.what) == (status, what)


def test_the_clock_is_compared_with_that_of_a_refusal_too() -> None:
    refusal = aws_error("SignatureDoesNotMatch", "Signature not yet current", date=DATE)
    finding = examine(clock, context({"sts.get_caller_identity": refusal}, clock=lambda: NOW + 900.5))
    assert finding.what.startswith("this machine's clock is 900 s ahead of AWS's")


@pytest.mark.parametrize("answer", [NoCredentialsError(), {**IDENTITY, "ResponseMetadata": {}}])
def test_a_clock_that_nobody_told_the_time_is_skipped(answer: Any) -> None:
    finding = examine(clock, context({"sts.get_caller_identity": answer}))
    assert finding == Finding.skipped("AWS did not tell the time")


@pytest.mark.parametrize(
    ("answer", "status", "what"),
    [
        ({"Parameter": {"Value": "28"}}, OK, "version 28; at least 6 is needed"),
        ({"Parameter": {"Value": "5"}}, FAILED, "version 5; at least 6 is needed"),
        (aws_error("ParameterNotFound"), FAILED, "this account and region are not bootstrapped for CDK"),
        (denied("ssm:GetParameter"), WARNING, "not examined: you lack the permission ssm:GetParameter"),
    ],
)
def test_the_account_is_bootstrapped(answer: Any, status: FindingStatus, what: str) -> None:
    finding = examine(bootstrap, context({"ssm.get_parameter": answer}))
    assert (finding.status, finding.what) == (status, what)
    command = "npx cdk bootstrap aws://123456789012/eu-west-1 -c environment=dev"
    assert finding.command == (command if status is FAILED else "")


def limits(total: int, unreserved: int | None = None) -> dict[str, Any]:
    limit = {
        "ConcurrentExecutions": total,
        "UnreservedConcurrentExecutions": total if unreserved is None else unreserved,
    }
    return {"AccountLimit": limit}


@pytest.mark.parametrize(
    ("reserve", "answer", "already", "status", "what"),
    [
        (None, limits(1000), 0, OK, "Lambda may run 1,000 at once, 1,000 of them unreserved"),
        (
            None,
            limits(10),
            0,
            WARNING,
            "Lambda may run 10 at once, 10 of them unreserved: few, as new accounts",
        ),
        (100, limits(1000), 0, OK, "Lambda may run 1,000 at once, 1,000 of them unreserved; 2 workers × 100"),
        (450, limits(1000), 0, OK, "Lambda may run 1,000 at once, 1,000 of them unreserved; 2 workers × 450"),
        (
            451,
            limits(1000),
            0,
            FAILED,
            "Lambda may run 1,000 at once, 1,000 of them unreserved; 2 workers × 451 reserved would leave less than 100",
        ),
        (
            451,
            limits(1000, 98),
            451,
            OK,
            "Lambda may run 1,000 at once, 98 of them unreserved; 2 workers × 451",
        ),
        (
            None,
            denied("lambda:GetAccountSettings"),
            0,
            WARNING,
            "not examined: you lack the permission lambda:Get",
        ),
    ],
)
def test_what_workers_reserve_is_to_be_had(
    reserve: int | None, answer: Any, already: int, status: FindingStatus, what: str, tmp_path: Path
) -> None:
    answers = {
        "lambda.get_account_settings": answer,
        "lambda.get_function_concurrency": {"ReservedConcurrentExecutions": already} if already else {},
    }
    root = clone(tmp_path, worker_reserved_concurrency=reserve)
    finding = examine(concurrency, context(answers, root=root))
    assert finding.status is status
    assert finding.what.startswith(what)


def test_before_the_first_deploy_what_each_worker_reserves_is_compared(tmp_path: Path) -> None:
    root = clone(tmp_path, worker_reserved_concurrency=950)
    finding = examine(
        concurrency, context({"lambda.get_account_settings": limits(1000)}, stacks=[], root=root)
    )
    assert finding.status is FAILED
    assert "each worker × 950 reserved" in finding.what


def quota(name: str, value: float) -> dict[str, Any]:
    return {"Quotas": [{"QuotaName": "Other", "Value": 1.0}, {"QuotaName": name, "Value": value}]}


@pytest.mark.parametrize(
    ("answer", "status", "what"),
    [
        (quota("Open executions", 1e6), OK, "1,000,000 executions may be open; a run opens a few at once"),
        (quota("Open executions", 100.0), WARNING, "100 executions may be open; a run opens a few at once"),
        (
            quota("Another", 5.0),
            SKIPPED,
            "Service Quotas does not list it; by default AWS allows 1,000,000 open",
        ),
        (
            denied("servicequotas:ListServiceQuotas"),
            SKIPPED,
            "you lack the permission servicequotas:ListServiceQuotas; by default AWS allows 1,000,000 open",
        ),
        (aws_error("ServiceException"), FAILED, "AWS: An error occurred (ServiceException)"),
    ],
)
def test_open_executions_are_by_quota_or_by_default(answer: Any, status: FindingStatus, what: str) -> None:
    finding = examine(executions, context({"service-quotas.list_service_quotas": answer}))
    assert finding.status is status
    assert finding.what.startswith(what)


def policies(*sizes: int, names: str = "policy-{}") -> dict[str, Any]:
    return {
        "resourcePolicies": [
            {"policyName": names.format(number), "policyDocument": "x" * size}
            for number, size in enumerate(sizes)
        ]
    }


@pytest.mark.parametrize(
    ("answer", "status", "what"),
    [
        (policies(), OK, "0 of 10 resource policies"),
        (policies(300, 4599), OK, "2 of 10 resource policies, the largest of 4,599 of 5,120 characters"),
        (
            policies(300, 5100),
            WARNING,
            (
                "nearly full: policy-1 5,100 of 5,120 characters. Winnow's machines log to /aws/vendedlogs/, for which "
                "AWS makes room; others may find none"
            ),
        ),
        (
            policies(*[300] * 10),
            FAILED,
            "10 of 10 resource policies: no room for the one that Step Functions makes, so a machine that logs is refused",
        ),
        (
            policies(*[300] * 10, names="AWSLogDeliveryWrite2015031{}"),
            OK,
            "10 of 10 resource policies, the largest of 300 of 5,120 characters",
        ),
        (
            denied("logs:DescribeResourcePolicies"),
            WARNING,
            "not examined: you lack the permission logs:DescribeResourcePolicies",
        ),
    ],
)
def test_log_policies_have_room(answer: Any, status: FindingStatus, what: str) -> None:
    finding = examine(log_policies, context({"logs.describe_resource_policies": answer}))
    assert (finding.status, finding.what) == (status, what)
