"""The whole command line as an operator and as a viewer, with IAM evaluated: what the stack's policies allow, and what they do not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from click.testing import CliRunner, Result

from scripts.commands.cli import main
from tests.integration.conftest import Deployment
from tests.integration.test_command_line import MANUSCRIPTS

ACTIONS = {
    "HeadBucket": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "TransactWriteItems": "dynamodb:PutItem",
}
"""Operations that IAM knows by another name; all others by their own."""
WITHOUT_PERMISSION = {"sts:GetCallerIdentity"}
OTHERWISE_NAMED = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "iam:SimulatePrincipalPolicy", "Resource": "*"},
        {"Effect": "Allow", "Action": "events:DescribeRule", "Resource": "arn:aws:events:*:*:rule/default/*"},
        {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "*"},
        {"Effect": "Allow", "Action": "logs:FilterLogEvents", "Resource": "*"},
    ],
}
"""Allowed besides, because the emulator looks for them under other resources than AWS."""
NOT_REACHED = {
    "cloudwatch:DescribeAlarmHistory": "the doctor's probes take minutes",
    "cloudwatch:SetAlarmState": "the doctor's probes take minutes",
    "dynamodb:DeleteItem": "a replay gives back its place in a lane only where another one took it first",
    "iam:GetRole": "asked for a role; this is a user",
    "kms:Decrypt": "SNS asks for it, on behalf of whoever publishes",
    "kms:GenerateDataKey": "SNS asks for it, on behalf of whoever publishes",
    "lambda:GetFunctionConcurrency": "asked where the settings reserve concurrency, which the local ones do not",
}
"""Actions that commands call in circumstances that these tests do not make."""


@dataclass(kw_only=True)
class Person:
    """A user of the account who has one of the stack's sets of policies, and what they called."""

    deployment: Deployment
    granted: set[str]
    keys: dict[str, str]
    used: set[str] = field(default_factory=set)

    def winnow(self, *arguments: str) -> Result:
        """The command line, in this process, so that its calls are seen."""
        environment = {**self.deployment.emulator.endpoint.environment(), **self.keys}
        before = BaseClient._make_api_call  # type: ignore[attr-defined]

        def seen(client: BaseClient, operation: str, parameters: dict[str, Any]) -> Any:
            signed_for = client.meta.service_model.signing_name
            service = {"monitoring": "cloudwatch"}.get(signed_for, signed_for)
            self.used.add(ACTIONS.get(operation, f"{service}:{operation}"))
            return before(client, operation, parameters)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BaseClient, "_make_api_call", seen)
            return CliRunner().invoke(main, list(arguments), env=environment)

    def json(self, *arguments: str) -> Any:
        done = self.winnow(*arguments)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)


@contextmanager
def person(deployment: Deployment, name: str) -> Iterator[Person]:
    """An IAM user with the policies that the stack's output names, and nothing else."""
    iam, cloudformation = map(deployment.target.client, ("iam", "cloudformation"))
    stacks = cloudformation.describe_stacks(StackName=deployment.pipeline.stack)["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stacks[0]["Outputs"]}
    arns = outputs[f"{name}PolicyArns"].split(",")
    iam.create_user(UserName=name)
    granted: set[str] = set()
    for arn in arns:
        iam.attach_user_policy(UserName=name, PolicyArn=arn)
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        for statement in document["Statement"]:
            actions = statement["Action"]
            granted |= {actions} if isinstance(actions, str) else set(actions)
    iam.put_user_policy(
        UserName=name, PolicyName="OtherwiseNamed", PolicyDocument=json.dumps(OTHERWISE_NAMED)
    )
    key = iam.create_access_key(UserName=name)["AccessKey"]
    keys = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    yield Person(deployment=deployment, granted=granted, keys=keys)


@pytest.fixture(scope="module")
def operator(strict_deployment: Deployment) -> Iterator[Person]:
    with person(strict_deployment, "Operator") as somebody:
        yield somebody


@pytest.fixture(scope="module")
def viewer(strict_deployment: Deployment) -> Iterator[Person]:
    with person(strict_deployment, "Viewer") as somebody:
        yield somebody


@pytest.fixture(scope="module")
def run_id(operator: Person) -> str:
    """A run that the operator started, some of whose records failed."""
    done = operator.winnow("run", "catalogue", "--source", str(MANUSCRIPTS), "--include", "*.xml", "--json")
    assert done.exit_code == 3, done.output
    return str(json.loads(done.stdout)["run_id"])


@pytest.fixture(scope="module")
def waived(operator: Person, run_id: str) -> str:
    """A failed record of the run that the operator waived."""
    failed = failed_records(operator)[-1]
    done = operator.winnow("replay", "waive", "--run", run_id, "--id", failed, "--reason", "lost in 1941")
    assert done.exit_code == 0, done.output
    return failed


def looking(run_id: str, failed: str) -> dict[str, tuple[str, ...]]:
    """Every command that changes nothing, with every option that asks AWS for something else."""
    return {
        "verify": ("verify", run_id),
        "verify deep": ("verify", run_id, "--deep", "--pipeline", "catalogue"),
        "verify a record": ("verify", run_id, "--id", failed),
        "list": ("replay", "list"),
        "list all": ("replay", "list", "--status", "resolved", "--status", "open", "--records"),
        "list of a run": ("replay", "list", "--run", run_id),
        "show": ("replay", "show", failed),
        "what a replay would do": ("replay", "run", "--all", "--force"),
        "what an earlier replay would do": ("replay", "run", "--all", "--from", "start", "--force"),
        "what a rebuild would do": ("replay", "rebuild", "--dry-run"),
        "what is published": ("publish", "list", "--history"),
        "a version": ("publish", "show", "1"),
        "what changed": ("publish", "diff", "1", "1"),
        "what a hold would do": ("publish", "hold", "--reason", "index"),
        "what pruning would do": ("publish", "prune", "--keep", "1"),
    }


def failed_records(person: Person) -> list[str]:
    lines = person.winnow("replay", "list", "--records", "--json").stdout.splitlines()
    return [str(json.loads(line)["record_id"]) for line in lines]


def unseen(person: Person) -> dict[str, str]:
    """Checks of the doctor's that lacked a permission."""
    checks = person.json("doctor", "--environment", "local", "--json")["checks"]
    return {each["name"]: json.dumps(each) for each in checks if "you lack" in json.dumps(each)}


def test_an_operator_may_do_all_that_the_command_line_does_and_no_more(
    operator: Person, run_id: str, tmp_path: Path
) -> None:
    failed = failed_records(operator)[0]
    for what, arguments in looking(run_id, failed).items():
        done = operator.winnow(*arguments)
        assert done.exit_code in {0, 3}, (what, done.output)
    listed = tmp_path / "ids.ndjson"
    listed.write_text(json.dumps({"id": "nowhere.xml"}) + "\n")
    changes = {
        # Of a record that has vanished; it publishes a second version all the same.
        "run a list": (0, ("run", "catalogue", "--records", str(listed))),
        "waive": (0, ("replay", "waive", "--id", failed, "--reason", "lost in 1941")),
        "reopen": (0, ("replay", "reopen", "--id", failed, "--reason", "found again")),
        "rebuild": (0, ("replay", "rebuild")),
        "replay what fails again": (
            1,
            ("replay", "run", "--id", failed, "--force", "--execute", "--watch", "--lane", "nightly"),
        ),
        "promote": (0, ("publish", "promote", "1", "--reason", "the titles were right", "--execute")),
        "roll back": (0, ("publish", "rollback", "--reason", "wrong titles", "--execute")),
        "hold": (0, ("publish", "hold", "--reason", "index", "--execute")),
        "release": (0, ("publish", "release", "--reason", "done", "--execute")),
        "send a test alert": (0, ("alert", "test")),
    }
    for what, (code, arguments) in changes.items():
        done = operator.winnow(*arguments)
        assert done.exit_code == code, (what, done.output)
        assert "you lack" not in done.output, (what, done.output)
    assert unseen(operator) == {}
    assert sorted(operator.granted - operator.used) == sorted(NOT_REACHED), "granted, and used by no command"
    assert operator.used - operator.granted == WITHOUT_PERMISSION


def test_a_viewer_sees_everything_and_is_refused_every_change_in_one_line(
    viewer: Person, run_id: str, waived: str, tmp_path: Path
) -> None:
    failed = failed_records(viewer)[0]
    for what, arguments in looking(run_id, failed).items():
        done = viewer.winnow(*arguments)
        assert done.exit_code in {0, 3}, (what, done.output)
    assert unseen(viewer) == {}
    listed = tmp_path / "ids.ndjson"
    listed.write_text(json.dumps({"id": "nowhere.xml"}) + "\n")
    before = viewer.winnow("replay", "list", "--records", "--json").stdout
    changes = {
        "run": ("run", "catalogue"),
        "run a folder": ("run", "catalogue", "--source", str(MANUSCRIPTS / "Greek")),
        "run a list": ("run", "catalogue", "--records", str(listed)),
        "replay": ("replay", "run", "--all", "--force", "--execute"),
        "waive": ("replay", "waive", "--id", failed, "--reason", "lost in 1941"),
        "reopen": ("replay", "reopen", "--id", waived, "--reason", "found again"),
        "promote": ("publish", "promote", "1", "--reason", "x", "--execute"),
        "hold": ("publish", "hold", "--reason", "x", "--execute"),
        "send a test alert": ("alert", "test"),
    }
    for what, arguments in changes.items():
        done = viewer.winnow(*arguments)
        assert done.exit_code in {1, 2}, (what, done.output)
        last = done.stderr.strip().splitlines()[-1]
        assert re.search(r"(s3|states|dynamodb|sns):(PutObject|StartExecution|PutItem|Publish)", last), (
            what,
            done.stderr,
        )
        assert "Traceback" not in done.stderr
    assert viewer.winnow("replay", "list", "--records", "--json").stdout == before, "nothing was changed"
    assert sorted(viewer.granted - viewer.used - NOT_REACHED.keys()) == [], "granted, and used by no command"
