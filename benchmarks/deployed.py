"""The measured pipeline on an emulator of its own, and what can be seen of its runs."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from benchmarks.workers import PIPELINE
from scripts import ROOT
from scripts.deployed import pipelines
from scripts.deployed.pipelines import DeployedPipeline
from scripts.deployed.target import Target
from scripts.local import cdk
from scripts.local.emulator import Emulator, environment_without_aws
from scripts.local.target import at_emulator
from winnow.core.contract import new_run_id

POLL_SECONDS = 0.05
WITHIN_SECONDS = 1800.0
LOG_LEVEL = "LOG_LEVEL"


class RunFailedError(RuntimeError):
    """A run that should have succeeded has not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedExecution:
    """An execution that succeeded."""

    arn: str
    seconds: float
    output: dict[str, Any]


class Deployed:
    """The pipeline `weather` on a fresh emulator."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.target: Target = at_emulator(emulator.endpoint)
        self.s3 = self.target.client("s3")
        self._stepfunctions = self.target.client("stepfunctions")

    @cached_property
    def pipeline(self) -> DeployedPipeline:
        return pipelines.find(self.target, PIPELINE)

    @property
    def ledger_bucket(self) -> str:
        return self.pipeline.ledger_bucket

    @cached_property
    def stage_machine(self) -> str:
        """The first stage's."""
        return self._output("CheckMachineArn")

    def _output(self, key: str) -> str:
        stacks = self.target.client("cloudformation").describe_stacks(StackName=PIPELINE)["Stacks"]
        return next(str(each["OutputValue"]) for each in stacks[0]["Outputs"] if each["OutputKey"] == key)

    def put_readings(self, count: int) -> dict[str, str]:
        """Put so many records into the ledger's bucket, as the caller of a run does."""
        key = f"readings/{count}.ndjson"
        body = "".join(map(_reading, range(count))).encode()
        self.s3.put_object(Bucket=self.ledger_bucket, Key=key, Body=body)
        return {"bucket": self.ledger_bucket, "key": key}

    def run(self, records: dict[str, str]) -> TimedExecution:
        """Run the pipeline over records, and wait for its end."""
        run_id = new_run_id()
        return self._execute(self.pipeline.arn, run_id, {"run_id": run_id, "records": records})

    def run_stage(self, records: dict[str, str]) -> TimedExecution:
        """Run the first stage by itself."""
        run_id = new_run_id()
        return self._execute(self.stage_machine, run_id, {"run_id": run_id, "records": records})

    def _execute(self, machine: str, name: str, given: dict[str, Any]) -> TimedExecution:
        since = time.perf_counter()
        arn = self._stepfunctions.start_execution(
            stateMachineArn=machine, name=name, input=json.dumps(given)
        )["executionArn"]
        while True:
            found = self._stepfunctions.describe_execution(executionArn=arn)
            seconds = time.perf_counter() - since
            if found["status"] != "RUNNING":
                break
            if seconds > WITHIN_SECONDS:
                raise RunFailedError(f"{arn} has not ended within {WITHIN_SECONDS:g} s")
            time.sleep(POLL_SECONDS)
        if found["status"] != "SUCCEEDED":
            raise RunFailedError(f"{arn} {found['status']}: {found.get('cause')}")
        return TimedExecution(arn=arn, seconds=seconds, output=json.loads(found["output"]))

    def history(self, arn: str) -> list[dict[str, Any]]:
        """All events of an execution."""
        events: list[dict[str, Any]] = []
        for page in self._stepfunctions.get_paginator("get_execution_history").paginate(executionArn=arn):
            events += page["events"]
        return events

    def stage_executions(self, run_id: str) -> dict[str, list[str]]:
        """Executions of the stage machines that a run started, by stage."""
        found: dict[str, list[str]] = {}
        for stage in self.pipeline.stages:
            machine = self._output(f"{stage.capitalize()}MachineArn")
            listed = self._stepfunctions.list_executions(stateMachineArn=machine)["executions"]
            found[stage] = [
                each["executionArn"] for each in listed if each["name"].partition("-")[0] == run_id
            ]
        return found


def _reading(number: int) -> str:
    fahrenheit = number * 7919 % 1500 / 10 - 30
    return (
        f'{{"id":"record-{number:08d}","data":{{"station":{number % 1000},"fahrenheit":{fahrenheit:.1f}}}}}\n'
    )


class Sites:
    """Deploys once, for all benchmarks that are run together, and leaves nothing behind."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._weather: Deployed | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._weather = None
        self._open.close()

    def weather(self) -> Deployed:
        """The pipeline on an emulator of its own, warm: every Lambda has run."""
        if self._weather is None:
            home = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
            self._weather = _deploy(home, self._open)
            self._weather.run(self._weather.put_readings(10))
        return self._weather


SITES = Sites()


def _deploy(home: Path, stack: ExitStack) -> Deployed:
    synthesis = _synthesise(home)
    with _requests_logged():
        emulator = stack.enter_context(Emulator.start(home / "emulator"))
    bootstrap = cdk.bootstrap(emulator.endpoint, home / "bootstrap.log")
    synthesis.wait()
    bootstrap.wait()
    cdk.deploy(home / "cdk.out", emulator.endpoint, home / "deploy.log").wait()
    return Deployed(emulator)


@contextmanager
def _requests_logged() -> Iterator[None]:
    """An emulator that is started now logs each request, which is how they are counted. It takes this from its environment."""
    before = os.environ.get(LOG_LEVEL)
    os.environ[LOG_LEVEL] = "DEBUG"
    try:
        yield
    finally:
        del os.environ[LOG_LEVEL]
        if before is not None:
            os.environ[LOG_LEVEL] = before


def _synthesise(home: Path) -> cdk.Command:
    app = [f"--app={sys.executable} -m benchmarks.app", f"--output={home / 'cdk.out'}"]
    return cdk.Command(
        ["synth", "--quiet", *app, f"--context=environment={cdk.ENVIRONMENT}"],
        environment=environment_without_aws(os.environ),
        log=home / "synth.log",
        folder=ROOT,
    )
