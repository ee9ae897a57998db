"""The workflows on GitHub: their commands exist and are the documented ones, and no fork and no pull request can deploy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from scripts import ROOT
from scripts.local.cdk import CDK

GITHUB = ROOT / ".github"
PAGE = ROOT / "docs" / "github-actions.md"
ROLES = GITHUB / "deploy-roles.yaml"
GUARD = "vars.WINNOW_DEPLOY == 'true'"


def read(name: str) -> dict[str, Any]:
    # YAML 1.1 takes the key `on` for a truth value.
    found: dict[str, Any] = yaml.safe_load((GITHUB / "workflows" / name).read_text(encoding="utf-8"))
    return found


def commands(workflow: dict[str, Any]) -> list[str]:
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    found: dict[str, Any] = read("deploy.yml")["jobs"]
    return found


@pytest.mark.parametrize("name", ["deploy.yml", "test.yml"])
def test_every_script_that_a_workflow_runs_is_there(name: str) -> None:
    for command in commands(read(name)):
        for script in re.findall(r"^(\.[\w/]*/\w+)", command, re.MULTILINE):
            assert (ROOT / script).is_file(), command


def test_cdk_knows_every_option_that_the_workflow_gives(jobs: dict[str, Any]) -> None:
    given = re.findall(r"npx cdk (\w+) ([^\n|]*)", "\n".join(commands({"jobs": jobs})))
    assert [command for command, _ in given] == ["diff", "deploy"]
    for command, rest in given:
        help_text = subprocess.run(
            [CDK, command, "--help"], capture_output=True, text=True, check=True
        ).stdout
        for option in re.findall(r"--[\w-]+|(?<= )-\w(?= )", f" {rest}"):
            assert option in help_text, f"cdk {command} {option}"
        assert f"npx cdk {command}" in PAGE.read_text(encoding="utf-8")


def test_nothing_runs_where_the_repository_does_not_say_so(jobs: dict[str, Any]) -> None:
    for job in jobs.values():
        assert GUARD in job["if"]
        assert "||" not in job["if"], "one condition that holds must not be enough"


def test_a_pull_request_never_deploys_and_one_of_a_fork_gets_no_role(jobs: dict[str, Any]) -> None:
    diff, deploy = jobs["diff"], jobs["deploy"]
    assert "head.repo.full_name == github.repository" in diff["if"]
    assert "environment" not in diff, "an environment's role deploys"
    assert "github.event_name != 'pull_request'" in deploy["if"]
    assert "github.ref == 'refs/heads/main'" in deploy["if"]
    triggers = read("deploy.yml")[True]  # type: ignore[index]
    assert "pull_request_target" not in triggers
    assert deploy["concurrency"]["cancel-in-progress"] is False, "a deploy that is cut off is rolled back"


def test_jobs_may_ask_for_a_role_and_read_the_code(jobs: dict[str, Any]) -> None:
    assert read("deploy.yml")["permissions"] == {"contents": "read"}
    for job in jobs.values():
        assert job["permissions"] == {"contents": "read", "id-token": "write"}
    for command in commands({"jobs": jobs}):
        assert "${{" not in command, "what an event says must not become part of a command"


class _Template(yaml.SafeLoader):  # type: ignore[misc]
    """CloudFormation's short forms, as their text."""


_Template.add_multi_constructor(
    "!",
    lambda loader, _, node: (
        loader.construct_scalar(node)
        if isinstance(node, yaml.ScalarNode)
        else loader.construct_sequence(node)
    ),
)


@pytest.fixture(scope="module")
def roles() -> dict[str, Any]:
    template = yaml.load(ROLES.read_text(encoding="utf-8"), Loader=_Template)
    return {
        name: each["Properties"]
        for name, each in template["Resources"].items()
        if each["Type"] == "AWS::IAM::Role"
    }


def test_the_roles_do_nothing_but_take_on_cdks_own(roles: dict[str, Any]) -> None:
    taken_on = {}
    for name, role in roles.items():
        [policy] = role["Policies"]
        [statement] = policy["PolicyDocument"]["Statement"]
        assert statement["Action"] == "sts:AssumeRole"
        resources = statement["Resource"]
        resources = [resources] if isinstance(resources, str) else resources
        taken_on[name] = [re.findall(r"}-([a-z-]+)-role-", each)[0] for each in resources]
    assert taken_on == {"DeployRole": ["deploy", "file-publishing", "lookup"], "DiffRole": ["lookup"]}


def test_the_roles_trust_one_repository_and_one_kind_of_job(roles: dict[str, Any]) -> None:
    subjects = {}
    for name, role in roles.items():
        [statement] = role["AssumeRolePolicyDocument"]["Statement"]
        [(operator, condition)] = statement["Condition"].items()
        assert operator == "StringEquals"
        assert condition["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"
        subjects[name] = condition["token.actions.githubusercontent.com:sub"]
    assert subjects == {
        "DeployRole": "repo:${Repository}:environment:${Environment}",
        "DiffRole": "repo:${Repository}:pull_request",
    }


def test_the_template_of_the_roles_is_clean_for_cfn_lint() -> None:
    lint = str(Path(sys.executable).with_name("cfn-lint"))
    done = subprocess.run([lint, str(ROLES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_variable_is_documented(jobs: dict[str, Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in set(re.findall(r"vars\.(\w+)", str(jobs))):
        assert f"`{name}`" in page
