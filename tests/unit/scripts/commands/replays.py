"""A pipeline whose failures can be replayed, for tests: real workers, a register and buckets in moto; only Step Functions is played."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Self

import boto3
from botocore.exceptions import ClientError
from click.testing import CliRunner, Result

from scripts.commands import cli
from scripts.deployed.target import Target
from tests.unit.winnow.runs import Pipeline
from winnow import Output, PermanentError, Record, worker
from winnow.core.keys import StageKeys
from winnow.register.entry import Entry
from winnow.register.item import SUMMARY_ATTRIBUTES
from winnow.register.registering import catch_up, release_holds
from winnow.register.table import OWED_INDEX, RegisterTable
from winnow.runtime.decorator import Worker
from winnow.storage.ledger import Ledger
from winnow.storage.store import S3Store

STAGES = ("adapt", "transform", "mint")
ARN = "arn:aws:states:eu-west-1:123456789012:stateMachine:catalogue"
STARTED = datetime(2026, 1, 1, tzinfo=UTC)
RUNS = tuple(f"01JD7ZK3V5Q8W9X0Y1Z2A3B4C{n}" for n in range(5, 10))
"""Ids of runs, in the order of their start."""


def create_tables(dynamodb: Any) -> None:
    keys = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
    texts = [{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "owed")]
    index = {
        "IndexName": OWED_INDEX,
        "KeySchema": [{"AttributeName": "owed", "KeyType": "HASH"}, keys[1]],
        "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": list(SUMMARY_ATTRIBUTES)},
    }
    where: dict[str, Any] = {"KeySchema": keys, "BillingMode": "PAY_PER_REQUEST"}
    dynamodb.create_table(
        TableName="register", AttributeDefinitions=texts, GlobalSecondaryIndexes=[index], **where
    )
    dynamodb.create_table(TableName="state", AttributeDefinitions=texts[:2], **where)


class StepFunctions:
    """Knows executions by name; what becomes of one that is started is said by `play`."""

    def __init__(self) -> None:
        self.started: dict[str, dict[str, Any]] = {}
        self.statuses: dict[str, str] = {}
        self.play: Callable[[dict[str, Any]], str] = lambda _: "RUNNING"

    def start_execution(self, *, stateMachineArn: str, name: str, input: str) -> None:  # noqa: A002, N803
        assert stateMachineArn == ARN
        if name in self.started:
            raise ClientError({"Error": {"Code": "ExecutionAlreadyExists"}}, "StartExecution")
        self.started[name] = json.loads(input)
        self.statuses[name] = "RUNNING"
        self.statuses[name] = self.play(self.started[name])

    def describe_execution(self, *, executionArn: str) -> dict[str, Any]:  # noqa: N803
        name = executionArn.rsplit(":", 1)[-1]
        if name not in self.statuses:
            raise ClientError({"Error": {"Code": "ExecutionDoesNotExist"}}, "DescribeExecution")
        status = self.statuses[name]
        ended = {} if status == "RUNNING" else {"stopDate": STARTED}
        given = {"input": json.dumps(self.started[name])} if name in self.started else {}
        return {"status": status, "startDate": STARTED, **given, **ended}


@dataclass(slots=True)
class Bench:
    """A deployed pipeline."""

    client: Callable[[str], Any]
    stepfunctions: StepFunctions = field(default_factory=StepFunctions)
    broken: dict[str, str] = field(default_factory=dict)
    """What goes wrong: `stage/id` to `permanent` or `transient`."""
    code_versions: dict[str, str] = field(default_factory=lambda: dict.fromkeys(STAGES, "test"))
    """Deployed now; what fails here fails under `test`."""
    stages: dict[str, Worker] = field(default_factory=dict)
    stated: dict[str, str] = field(default_factory=lambda: {"Environment": "dev"})
    """What its stack says besides, by output."""
    other_stacks: dict[str, dict[str, str]] = field(default_factory=dict)
    """Outputs of further stacks in the account, by name."""

    @classmethod
    def build(cls) -> Self:
        """Within `mock_aws`."""
        bench = cls(client=cache(boto3.client))
        for bucket in ("ledger", "source"):
            where = {"LocationConstraint": "eu-west-1"}
            bench.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
        create_tables(bench.client("dynamodb"))
        bench.stages = {
            "adapt": bench.worker("adapt", "T-"),
            "transform": bench.worker("transform", ""),
            "mint": bench.worker("mint", "M-"),
        }
        return bench

    def worker(self, stage: str, prefix: str) -> Worker:
        @worker
        def work(record: Record) -> object:
            match self.broken.get(f"{stage}/{record.id}"):
                case "permanent":
                    raise PermanentError(f"no title in {record.id!r}")
                case "transient":
                    raise TimeoutError("no answer")
            return Output({"of": record.id}, id=f"{prefix}{record.id}")

        return work

    @property
    def s3(self) -> Any:
        return self.client("s3")

    @property
    def ledger(self) -> Ledger:
        return Ledger(S3Store("ledger", self.s3))

    @property
    def register(self) -> RegisterTable:
        return RegisterTable(
            "register", boto3.client("dynamodb"), lanes=1
        )  # moto's tables are not made for threads

    def upload(self, **files: str) -> list[dict[str, Any]]:
        """Put files into the source; returns them as PlanRun lists them."""
        listed = []
        for key, text in files.items():
            tag = self.s3.put_object(Bucket="source", Key=key, Body=text.encode())["ETag"].strip('"')
            listed.append({"id": key, "data": {"bucket": "source", "key": key, "etag": tag}})
        return listed

    def run(self, records: object, run_id: str = RUNS[0], **event: Any) -> None:
        """Run the pipeline to its end, register and close it."""
        pipeline = Pipeline(self.stages, ledger=self.ledger)
        pipeline.run({"records": records, **event}, run_id=run_id)
        for stage in STAGES:
            catch_up(self.ledger, self.register, StageKeys(run_id, stage))
        if event.get("replay"):
            release_holds(self.register, "catalogue", STAGES, run_id)

    def replay(self, given: dict[str, Any]) -> str:
        """What the pipeline machine makes of a replay's input."""
        event = {name: value for name, value in given.items() if name not in {"run_id", "records"}}
        self.run(given["records"], run_id=given["run_id"], **event)
        result = self.ledger.find_json(StageKeys(given["run_id"], STAGES[-1]).result)
        return "SUCCEEDED" if result else "FAILED"

    def entry(self, stage: str, record_id: str) -> Entry:
        found = self.register.find("catalogue", stage, record_id)
        assert found is not None
        return found

    @property
    def outputs(self) -> dict[str, str]:
        versions = {f"{stage.title()}CodeVersion": version for stage, version in self.code_versions.items()}
        return {
            "PipelineName": "catalogue",
            "PipelineArn": ARN,
            "StageNames": ",".join(STAGES),
            "LedgerBucket": "ledger",
            "SourceBucket": "source",
            "StateTable": "state",
            "RegisterTable": "register",
            **versions,
            **self.stated,
        }

    def make_client(self, service: str) -> Any:
        if service == "cloudformation":
            return Stacks({"catalogue": self.outputs, **self.other_stacks})
        return self.stepfunctions if service == "stepfunctions" else self.client(service)

    @property
    def target(self) -> Target:
        return Target(name="the account of the test", is_local=True, client=self.make_client)

    def winnow(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli.main, ["replay", *arguments], catch_exceptions=False)

    def lines(self, *arguments: str) -> list[dict[str, Any]]:
        """What a command prints as ndjson."""
        result = self.winnow(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    def selected(self, replay_id: str) -> list[tuple[str, str, list[int]]]:
        """What a replay was started with."""
        document = self.ledger.read_json(f"replays/{replay_id}/selection.json")
        return [(part["run_id"], part["stage"], part["ordinals"]) for part in document["parts"]]


class Stacks:
    """CloudFormation, with stacks of given outputs by name."""

    def __init__(self, stacks: dict[str, dict[str, str]]) -> None:
        self._stacks = stacks

    def get_paginator(self, _: str) -> Self:
        return self

    def paginate(self) -> Iterator[dict[str, Any]]:
        for name, outputs in self._stacks.items():
            said = [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]
            yield {"Stacks": [{"StackName": name, "Outputs": said}]}


def ids(lines: Sequence[dict[str, Any]]) -> list[str]:
    return [line["record_id"] for line in lines]
