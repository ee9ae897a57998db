"""What a user's mistakes look like: one clear line, exit code 2, and nothing was started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import boto3
import pytest
from click.testing import CliRunner, Result
from moto import mock_aws

from scripts.commands import cli
from scripts.deployed.target import Target
from scripts.local import emulator
from scripts.local import state as local_state

OUTPUTS = {
    "PipelineName": "catalogue",
    "PipelineArn": "arn:aws:states:eu-west-1:123456789012:stateMachine:catalogue",
    "StageNames": "adapt,transform,mint",
    "LedgerBucket": "ledger",
    "SourceBucket": "source",
    "SourcePrefix": "in/",
}


def winnow(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


class Account:
    """An account with one stack, or none: what CloudFormation tells of it, and the rest of AWS as moto plays it."""

    def __init__(self, outputs: dict[str, str]) -> None:
        self._outputs = [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]

    def client(self, service: str) -> Any:
        return self if service == "cloudformation" else boto3.client(service)

    def get_paginator(self, _: str) -> Self:
        return self

    def paginate(self) -> list[dict[str, Any]]:
        return [
            {
                "Stacks": [
                    {"StackName": "CDKToolkit"},
                    {"StackName": "catalogue-dev", "Outputs": self._outputs},
                ]
            }
        ]


def aim_at(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target(name="the account of the test", is_local=False, client=account.client)
    monkeypatch.setattr("scripts.commands.aim.at_environment", lambda: target)


@pytest.fixture(scope="module")
def buckets() -> Iterator[None]:
    with mock_aws():
        for bucket in ("ledger", "source"):
            boto3.client("s3").create_bucket(
                Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
            )
        yield


@pytest.fixture
def account(buckets: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    aim_at(Account(OUTPUTS), monkeypatch)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("empty.ndjson").touch()
    Path("page.html").write_text("<!doctype html>")
    Path("none.json").write_text("[]")
    Path("ids.ndjson").write_text('"a"\n')


@pytest.mark.usefixtures("account", "files")
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("run catalog", "PIPELINE must be one of catalogue"),
        (
            "run catalogue --source nowhere",
            "--source must be a folder, a zip, a file or an s3:// address that exists",
        ),
        ("run catalogue --source empty", "--source must hold at least one file that matches '*'"),
        ("run catalogue --source s3://elsewhere/x", "--source must be in the source bucket, s3://source/;"),
        ("run catalogue --source s3://source/out/", "prefix: must begin with the source's own prefix, in/"),
        ("run catalogue --source s3://", "--source must be s3://BUCKET/KEY"),
        ("run catalogue --source empty --records ids.ndjson", "--records cannot go with --source"),
        ("run catalogue --records nowhere", "--records must be a file or an s3:// address that exists"),
        ("run catalogue --records empty.ndjson", "--records must list at least one record"),
        ("run catalogue --records page.html", "--records looks like HTML or XML"),
        ("run catalogue --records none.json", "--records is an empty array"),
        ("run catalogue --records s3://ledger", "--records must name an object"),
        ("run catalogue --id-column name", "--id-column needs --records"),
        ("run catalogue --from mint", "records: is missing; a run that starts at mint needs a list"),
        (
            "run catalogue --from publish",
            "start_at: must be one of this pipeline's stages: adapt, transform, mint",
        ),
        ("verify nothing", "RUN must be in a ledger of"),
        ("verify nothing --pipeline catalog", "PIPELINE must be one of catalogue"),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments: str, line: str) -> None:
    result = winnow(*arguments.split())
    assert result.exit_code == 2
    assert result.stdout == ""
    assert f"Error: {line}" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket="source")


@pytest.mark.usefixtures("account", "files")
def test_what_is_left_out_of_a_source_is_told_whatever_is_printed_besides() -> None:
    Path("empty", "a.xml").write_text("<TEI/>")
    Path("empty", "b.xml").symlink_to("gone")
    result = winnow("run", "catalogue", "--source", "empty", "--no-watch", "--json")
    first, second, *_ = result.stderr.splitlines()
    assert first.startswith("environment not named: run 01")
    assert first.endswith(" of catalogue, in the account of the test")
    assert second == "left out (a broken link: No such file or directory): b.xml"
    s3 = boto3.client("s3")
    assert s3.get_object(Bucket="source", Key="in/a.xml")["Body"].read() == b"<TEI/>"
    s3.delete_object(Bucket="source", Key="in/a.xml")


def test_says_that_nothing_is_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    aim_at(Account({}), monkeypatch)
    result = winnow("run", "catalogue")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: the account of the test has no pipeline; deploy one: npx cdk deploy -c environment=NAME, or winnow local up\n"
    )


def test_says_where_credentials_may_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    result = winnow("run", "catalogue")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: AWS: Unable to locate credentials; name a profile that has them (AWS_PROFILE), or log in\n",
    )


def test_says_what_aws_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    result = winnow("run", "catalogue")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        'Error: AWS: Could not connect to the endpoint URL: "http://127.0.0.1:9/"'
    )
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("--local", "run", "catalogue"), ("run", "catalogue", "--local")])
def test_local_is_understood_before_and_after_the_command(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_state, "HOME", tmp_path)
    result = winnow(*arguments)
    assert result.exit_code == 2
    assert "--local needs an emulator that is running; start one: winnow local up" in result.stderr


def test_the_state_of_an_emulator_that_is_gone_is_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_state, "HOME", tmp_path)
    endpoint = emulator.Endpoint(url="http://127.0.0.1:1234")
    local_state.LocalState(endpoint=endpoint, started_at="2026-01-01T00:00:00.000Z").write()
    (tmp_path / "lock").write_text("1")
    assert local_state.LocalState.read() is None


@pytest.mark.parametrize("command", [(), ("run",), ("verify",), ("local",)])
def test_help_shows_examples(command: tuple[str, ...]) -> None:
    result = winnow(*command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.output


def test_completes_commands_in_a_shell() -> None:
    result = CliRunner().invoke(
        cli.main,
        [],
        env={"_WINNOW_COMPLETE": "bash_complete", "COMP_WORDS": "winnow ver", "COMP_CWORD": "1"},
        prog_name="winnow",
    )
    assert result.output.splitlines() == ["plain,verify"]
