"""Checks of this clone: settings, tools, region, and which code is deployed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scripts.doctor.account import cdk_region, region
from scripts.doctor.clone import environment_settings, tools
from scripts.doctor.code import code
from scripts.doctor.examination import examine
from scripts.doctor.finding import FindingStatus
from tests.unit.scripts.doctor.accounts import clone, context

OK, WARNING, FAILED = FindingStatus.OK, FindingStatus.WARNING, FindingStatus.FAILED


def test_settings_that_can_be_deployed_are_ok(tmp_path: Path) -> None:
    finding = examine(environment_settings, context(root=clone(tmp_path, removal="destroy")))
    assert (finding.status, finding.what) == (OK, "environment dev of cdk.json is valid; removal: destroy")


@pytest.mark.parametrize(
    ("document", "what"),
    [
        (
            '{"context": {"environments": {"dev": {"max_tries": 0}}}}',
            "cdk.json: environments.dev.max_tries must be a whole number from 1 to",
        ),
        (
            '{"context": {"environments": {"dev": {"retries": 4}}}}',
            "cdk.json: environments.dev.retries is not a setting; known are",
        ),
        (
            '{"context": {"environments": {"prod": {}}}}',
            "cdk.json: environment must be one of prod, got: 'dev'",
        ),
        ('{"context": {', "cdk.json: cdk.json must be JSON, got: 'Expecting"),
        ("[]", "cdk.json: context must be an object, got: None"),
    ],
)
def test_a_mistake_in_the_settings_is_told_as_a_synthesis_would(
    document: str, what: str, tmp_path: Path
) -> None:
    (tmp_path / "cdk.json").write_text(document)
    finding = examine(environment_settings, context(root=tmp_path))
    assert finding.status is FAILED
    assert finding.what.startswith(what)


def test_a_folder_without_cdk_json_is_no_clone(tmp_path: Path) -> None:
    finding = examine(environment_settings, context(root=tmp_path))
    assert finding.what == f"cdk.json: cdk.json must exist, got: '{tmp_path}/cdk.json'"


@pytest.mark.parametrize(
    ("node", "installed", "status", "what"),
    [
        ("v22.11.0", "2.1148.1", OK, "Node.js 22.11.0, CDK 2.1148.1"),
        ("v20.20.2", "2.1148.1", WARNING, "Node.js 20.20.2, CDK 2.1148.1: this Node.js is no longer"),
        ("v18.0.0", "2.1148.1", FAILED, "Node.js v18.0.0 is too old for the CDK"),
        (None, "2.1148.1", FAILED, "Node.js is not there; the CDK needs it"),
        ("v22.11.0", "3.0.0", FAILED, "CDK 3.0.0 is installed, and package.json asks for 2.1148.1"),
        ("v22.11.0", None, FAILED, "the CDK command line is not installed in node_modules"),
    ],
)
def test_tools_are_those_that_the_clone_asks_for(
    node: str | None, installed: str | None, status: FindingStatus, what: str, tmp_path: Path
) -> None:
    (tmp_path / "package.json").write_text('{"devDependencies": {"aws-cdk": "2.1148.1"}}')
    if installed:
        folder = tmp_path / "node_modules" / "aws-cdk"
        folder.mkdir(parents=True)
        (folder / "package.json").write_text(json.dumps({"version": installed}))
    finding = examine(tools, context(root=tmp_path, output_of=lambda _: node))
    assert finding.status is status
    assert finding.what.startswith(what)


PROFILES = {"default": {"region": "eu-west-2"}, "work": {"region": "eu-central-1"}, "bare": {}}


@pytest.mark.parametrize(
    ("variables", "profiles", "expected"),
    [
        ({"AWS_REGION": "a", "AWS_DEFAULT_REGION": "b"}, PROFILES, ("a", "AWS_REGION")),
        ({"AMAZON_REGION": "a", "AWS_DEFAULT_REGION": "b"}, PROFILES, ("a", "AMAZON_REGION")),
        ({"AWS_DEFAULT_REGION": "b", "AWS_PROFILE": "work"}, PROFILES, ("b", "AWS_DEFAULT_REGION")),
        ({"AWS_PROFILE": "work"}, PROFILES, ("eu-central-1", "profile work")),
        ({"AWS_DEFAULT_PROFILE": "work"}, PROFILES, ("eu-central-1", "profile work")),
        ({"AWS_PROFILE": "bare"}, PROFILES, ("eu-west-2", "profile default")),
        ({}, PROFILES, ("eu-west-2", "profile default")),
        ({"AWS_REGION": ""}, {}, ("us-east-1", "CDK's own default, as nothing names one")),
    ],
)
def test_cdk_looks_for_its_region_in_an_order_of_its_own(
    variables: Mapping[str, str], profiles: Mapping[str, Any], expected: tuple[str, str]
) -> None:
    assert cdk_region(variables, profiles) == expected


@pytest.mark.parametrize(
    ("settings", "variables", "status", "what", "command"),
    [
        ({}, {"AWS_REGION": "eu-west-1"}, OK, "eu-west-1, by AWS_REGION", ""),
        ({"region": "eu-west-1"}, {"AWS_REGION": "eu-west-2"}, OK, "eu-west-1, by cdk.json", ""),
        (
            {"region": "eu-central-1"},
            {"AWS_REGION": "eu-west-1"},
            FAILED,
            "CDK deploys to eu-central-1 (by cdk.json), and this command looks in eu-west-1",
            "export AWS_REGION=eu-central-1",
        ),
        (
            {},
            {},
            FAILED,
            "CDK deploys to us-east-1 (by CDK's own default, as nothing names one), and this command looks in eu-west-1",
            "export AWS_REGION=REGION",
        ),
    ],
)
def test_the_command_looks_where_cdk_deploys_to(
    settings: dict[str, Any],
    variables: Mapping[str, str],
    status: FindingStatus,
    what: str,
    command: str,
    tmp_path: Path,
) -> None:
    finding = examine(region, context(root=clone(tmp_path, **settings), variables=variables))
    assert (finding.status, finding.what, finding.command) == (status, what, command)


TEMPLATE = {
    "Outputs": {
        "CleanCodeVersion": {"Value": "aaaa"},
        "IndexCodeVersion": {"Value": "bbbb"},
        "LedgerBucket": {"Value": {"Ref": "Ledger"}},
    }
}


def synthesised(folder: Path, template: Any, *, changed_since: bool = False) -> Path:
    clone(folder)
    (folder / "lambdas").mkdir()
    source = folder / "lambdas" / "worker.py"
    source.touch()
    (folder / "cdk.out").mkdir()
    made = folder / "cdk.out" / "books-dev.template.json"
    made.write_text(json.dumps(template))
    for path, time in ((folder / "cdk.json", 1), (source, 3 if changed_since else 1), (made, 2)):
        os.utime(path, (time, time))
    return folder


@pytest.mark.parametrize(
    ("index", "changed_since", "what"),
    [
        ("bbbb", False, "clean aaaa, index bbbb, as in this clone"),
        (
            "cccc",
            False,
            "clean aaaa, index bbbb; this clone has other code for index: deploy it if that is meant",
        ),
        (
            "cccc",
            True,
            "clean aaaa, index bbbb (not compared: this clone has changed since it was synthesised)",
        ),
    ],
)
def test_other_code_in_this_clone_is_told(
    *, index: str, changed_since: bool, what: str, tmp_path: Path
) -> None:
    template = {"Outputs": {**TEMPLATE["Outputs"], "IndexCodeVersion": {"Value": index}}}
    root = synthesised(tmp_path, template, changed_since=changed_since)
    finding = examine(code, context(root=root))
    assert (finding.status, finding.what) == (OK, what)


def test_code_is_not_compared_with_a_clone_that_was_never_synthesised(tmp_path: Path) -> None:
    finding = examine(code, context(root=clone(tmp_path)))
    assert finding.what == "clean aaaa, index bbbb (not compared: this clone has not been synthesised)"
