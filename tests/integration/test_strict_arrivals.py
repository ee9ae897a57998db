"""Arrivals with TLS and IAM enforced: who gathers them, and who closes their window, may do what they have to."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import ROOT
from scripts.deployed import pipelines
from scripts.deployed.pipelines import DeployedPipeline
from scripts.deployed.target import Target
from scripts.local import cdk
from scripts.local.emulator import Emulator
from scripts.local.target import at_emulator
from tests.integration.conftest import WINNOW
from tests.pace import waits
from tests.patience import PATIENCE_SECONDS, await_
from winnow.storage.arrival_windows import DynamoArrivalWindows
from winnow.storage.executions import StepFunctions

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("strict_arrivals")]

MANUSCRIPTS = ROOT / "tests" / "data" / "manuscripts" / "Greek"
WAIT_SCALE = 0.05


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    home = tmp_path_factory.mktemp("arriving")
    with Emulator.start(home / "emulator", wait_scale=waits(WAIT_SCALE), strict=True) as made:
        bootstrap = cdk.bootstrap(made.endpoint, home / "bootstrap.log")
        secrets = at_emulator(made.endpoint).client("secretsmanager")
        secrets.create_secret(
            Name=cdk.settings()["slack_webhook_secret"], SecretString="https://localhost:1/nobody"
        )
        bootstrap.wait()
        cdk.Command(
            [
                "deploy",
                "--all",
                f"--app={sys.executable} -m tests.integration.arriving",
                f"--output={home / 'cdk.out'}",
                f"--context=environment={cdk.ENVIRONMENT}",
                "--require-approval=never",
                "--method=direct",
            ],
            environment=made.endpoint.environment(),
            log=home / "deploy.log",
            folder=ROOT,
        ).wait()
        yield made


@pytest.fixture(scope="module")
def target(emulator: Emulator) -> Target:
    return at_emulator(emulator.endpoint)


@pytest.fixture(scope="module")
def pipeline(target: Target) -> DeployedPipeline:
    return pipelines.find(target, "catalogue")


def started(target: Target, pipeline: DeployedPipeline) -> list[dict[str, Any]]:
    """What the runs were started with."""
    stepfunctions = target.client("stepfunctions")
    found = stepfunctions.list_executions(stateMachineArn=pipeline.arn)["executions"]
    return [
        json.loads(stepfunctions.describe_execution(executionArn=each["executionArn"])["input"])
        for each in found
    ]


def test_objects_that_arrive_start_a_run(target: Target, pipeline: DeployedPipeline) -> None:
    s3 = target.client("s3")
    for file in MANUSCRIPTS.iterdir():
        s3.put_object(Bucket=pipeline.source_bucket, Key=file.name, Body=file.read_bytes())
    arrived = len(list(MANUSCRIPTS.iterdir()))
    await_(
        "a run of each object",
        lambda: sum(given["trigger"]["objects"] for given in started(target, pipeline)) == arrived,
    )
    machine = StepFunctions(machine_arn=pipeline.arn, stepfunctions=target.client("stepfunctions"))
    for given in started(target, pipeline):
        execution = machine.arn(given["run_id"])
        await_("its end", lambda: machine.status(execution) == "SUCCEEDED")  # noqa: B023  called at once


def test_what_is_uploaded_for_a_run_starts_no_other(
    emulator: Emulator, target: Target, pipeline: DeployedPipeline, tmp_path: Path
) -> None:
    (tmp_path / "uploaded.xml").write_bytes(next(MANUSCRIPTS.iterdir()).read_bytes())
    windows = DynamoArrivalWindows(pipeline.state_table, target.client("dynamodb"), pipeline=pipeline.name)
    before = windows.current()
    done = subprocess.run(
        [WINNOW, "run", "catalogue", "--source", str(tmp_path), "--json", "--yes"],
        env=emulator.endpoint.environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    run_id = json.loads(done.stdout)["run_id"]
    await_("the window of the upload", lambda: windows.current() != before)
    window = windows.current()
    assert window

    def is_done() -> bool:
        key = {"pk": {"S": f"window#{window.run_id}"}, "sk": {"S": "arrivals"}}
        item = target.client("dynamodb").get_item(TableName=pipeline.state_table, Key=key)["Item"]
        return "done" in item

    await_("the window's end", is_done)
    runs = {given["run_id"] for given in started(target, pipeline)}
    assert run_id in runs
    assert window.run_id not in runs
