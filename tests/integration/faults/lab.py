"""Where the fault tests are made: an emulator with both pipelines deployed, and what there is to be seen of a run."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
from botocore.exceptions import ClientError

from scripts import ROOT
from scripts.deployed.target import Target
from scripts.local import cdk
from scripts.local.emulator import Emulator
from scripts.local.target import at_emulator
from stacks.settings import LONGEST_WINDOW_SECONDS
from statemachines.pipeline import pascal_case
from tests import patience
from tests.integration.faults.app import PATIENT, PIPELINE
from tests.integration.faults.loopback import World
from tests.pace import margin, waits
from winnow.alerts.content import MAX_EXAMPLES
from winnow.batch.opening import detect, open_source
from winnow.batch.plan import read_plan
from winnow.batch.rows import RowSpan
from winnow.core import keys
from winnow.core.contract import MAX_INLINE_BYTES, Pointer, SourceFormat, attempt_execution_name
from winnow.core.keys import StageKeys
from winnow.proof.prove import prove
from winnow.storage.ledger import Ledger
from winnow.storage.store import S3Store

T = TypeVar("T")

HASTY_SECONDS = 10
"""The timeout of the worker that is to run into it, on an idle machine; a slow one gets more."""
MAX_HASTY_SECONDS = 40
WINDOW_SECONDS = 20
"""The window of arrivals, on an idle machine: a test's objects are to be there within one."""
REDELIVERY_SECONDS = 10
WAIT_SCALE = 0.02
"""Half a minute becomes 0.6 s."""
POLL_SECONDS = 0.3
CATALOGUE = "catalogue"

Record = Mapping[str, Any] | str


class Closed(Exception):
    """The tests are over; a thread that still waits for something can stop."""


def await_(what: str, condition: Callable[[], T | None], *, lab: Lab | None = None) -> T:
    """Wait until a condition gives something."""

    def asked() -> T | None:
        if lab and lab.closed.is_set():
            raise Closed(what)
        return condition()

    return patience.await_(what, asked, poll_seconds=POLL_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A pipeline as its stack describes it."""

    outputs: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.outputs["PipelineName"]

    @property
    def arn(self) -> str:
        return self.outputs["PipelineArn"]

    @property
    def stages(self) -> list[str]:
        return self.outputs["StageNames"].split(",")

    @property
    def ledger_bucket(self) -> str:
        return self.outputs["LedgerBucket"]

    @property
    def source_bucket(self) -> str:
        return self.outputs["SourceBucket"]

    def machine(self, stage: str) -> str:
        return self.outputs[f"{pascal_case(stage)}MachineArn"]

    def worker(self, stage: str) -> str:
        return self.outputs[f"{pascal_case(stage)}WorkerName"]


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue in SQS."""

    url: str
    arn: str


class Lab:
    """The emulator and everything in it."""

    def __init__(self, emulator: Emulator, world: World) -> None:
        self.emulator = emulator
        self.hasty_seconds = min(MAX_HASTY_SECONDS, ceil(margin(HASTY_SECONDS)))
        """The timeout of the hasty worker; a tenth of it is what a record may take in a careful attempt."""
        self.world = world
        self.closed = threading.Event()
        target = at_emulator(emulator.endpoint)
        self._target: Target = target
        self.s3 = target.client("s3")
        self.sqs = target.client("sqs")
        self.sns = target.client("sns")
        self.dynamodb = target.client("dynamodb")
        self.events = target.client("events")
        self.lambdas = target.client("lambda")
        self.stepfunctions = target.client("stepfunctions")
        self._alerts = _Inbox(self)

    @classmethod
    def open(cls, home: Path, stack: ExitStack) -> Self:
        """Start and deploy everything; it ends with the stack."""
        world = World()
        for server in world.servers():
            stack.enter_context(server)
        emulator = stack.enter_context(Emulator.start(home / "emulator", wait_scale=waits(WAIT_SCALE)))
        world.proxy.upstream = emulator.endpoint.url
        lab = cls(emulator, world)
        stack.callback(lab.closed.set)
        secret = cdk.settings()["slack_webhook_secret"]
        lab._target.client("secretsmanager").create_secret(Name=secret, SecretString=world.slack.url)
        _deploy(
            emulator,
            home,
            proxy=world.proxy.url,
            hasty_seconds=lab.hasty_seconds,
            window_seconds=min(LONGEST_WINDOW_SECONDS, ceil(margin(WINDOW_SECONDS))),
        )
        lab._alerts.subscribe(lab.pipelines.values())
        for queue in ("Arrivals", "Windows"):
            lab._deliver_soon_again(lab.queue(queue))
        return lab

    @cached_property
    def pipelines(self) -> dict[str, Deployed]:
        stacks = self._target.client("cloudformation").describe_stacks()["Stacks"]
        found = [
            {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", ())} for stack in stacks
        ]
        return {each["PipelineName"]: Deployed(outputs=each) for each in found if "PipelineName" in each}

    @property
    def faults(self) -> Deployed:
        return self.pipelines[PIPELINE]

    def function(self, handler: str) -> dict[str, Any]:
        """The configuration of one of the fault pipeline's own functions."""
        [name] = [
            function["FunctionName"]
            for page in self.lambdas.get_paginator("list_functions").paginate()
            for function in page["Functions"]
            if function["Handler"] == f"winnow.handlers.{handler}.handler"
            and function["Environment"]["Variables"]["WINNOW_PIPELINE"] == PIPELINE
        ]
        found: dict[str, Any] = self.lambdas.get_function_configuration(FunctionName=name)
        return found

    def queue(self, part: str) -> Queue:
        """One of the fault pipeline's queues, by a part of its name in the stack."""
        resources = self._target.client("cloudformation").describe_stack_resources(StackName=PIPELINE)
        [url] = [
            each["PhysicalResourceId"]
            for each in resources["StackResources"]
            if each["ResourceType"] == "AWS::SQS::Queue" and part in each["LogicalResourceId"]
        ]
        return Queue(url, self._arn(url))

    def _arn(self, queue_url: str) -> str:
        answer = self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
        return str(answer["Attributes"]["QueueArn"])

    def _deliver_soon_again(self, queue: Queue) -> None:
        """Do not wait six minutes, as the stack says, for a message that a function could not deal with at once."""
        seconds = ceil(margin(REDELIVERY_SECONDS))
        self.sqs.set_queue_attributes(QueueUrl=queue.url, Attributes={"VisibilityTimeout": str(seconds)})

    def put_list(self, run_id: str, records: Iterable[Record]) -> dict[str, str]:
        """Put a list of records into the ledger's bucket, as callers do."""
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        return self.put_object(f"inputs/{run_id}.ndjson", lines.encode())

    def put_object(self, key: str, body: bytes) -> dict[str, str]:
        bucket = self.faults.ledger_bucket
        self.s3.put_object(Bucket=bucket, Key=key, Body=body)
        return {"bucket": bucket, "key": key}

    def start(self, run_id: str, records: Iterable[Record] | Pointer, *, start_at: str = PATIENT) -> Run:
        """Start a run of the fault pipeline."""
        pointer = records.to_payload() if isinstance(records, Pointer) else self.put_list(run_id, records)
        return self.start_with({"run_id": run_id, "start_at": start_at, "records": pointer}, name=run_id)

    def start_with(self, given: object, *, name: str, pipeline: str = PIPELINE) -> Run:
        """Start a run with any input; unless that says otherwise, its id is the execution's name."""
        deployed = self.pipelines[pipeline]
        answer = self.stepfunctions.start_execution(
            stateMachineArn=deployed.arn, name=name, input=json.dumps(given, ensure_ascii=False)
        )
        return Run(self, deployed, name, answer["executionArn"])

    def run(self, run_id: str, records: Iterable[Record] | Pointer, *, start_at: str = PATIENT) -> Run:
        """Start a run of the fault pipeline, and await its end and its closing."""
        return self.start(run_id, records, start_at=start_at).ended()

    def start_stage(self, stage: str, given: object, *, name: str) -> Run:
        """Start one stage of the fault pipeline by itself."""
        answer = self.stepfunctions.start_execution(
            stateMachineArn=self.faults.machine(stage), name=name, input=json.dumps(given, ensure_ascii=False)
        )
        return Run(self, self.faults, name, answer["executionArn"])

    def invoke(self, function: str, event: object) -> Any:
        """Call a function and return its answer."""
        answer = self.lambdas.invoke(FunctionName=function, Payload=json.dumps(event).encode())
        body = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, body
        return body

    def alerts_about(self, run_id: str) -> list[dict[str, Any]]:
        """The alerts on a run that the topic has delivered so far."""
        return self._alerts.about(run_id)


def _deploy(emulator: Emulator, home: Path, **settings: object) -> None:
    endpoint = emulator.endpoint
    bootstrap = cdk.bootstrap(endpoint, home / "bootstrap.log")
    app = [f"--app={sys.executable} -m tests.integration.faults.app", f"--output={home / 'cdk.out'}"]
    settings["environment"] = cdk.ENVIRONMENT
    context = [f"--context={name}={value}" for name, value in settings.items()]
    environment = endpoint.environment()
    cdk.Command(
        ["synth", "--quiet", *app, *context], environment=environment, log=home / "synth.log", folder=ROOT
    ).wait()
    bootstrap.wait()
    cdk.Command(
        [
            "deploy",
            "--all",
            f"--app={home / 'cdk.out'}",
            "--require-approval=never",
            "--progress=events",
            "--method=direct",
            "--concurrency=2",
        ],
        environment=environment,
        log=home / "deploy.log",
        folder=home,
    ).wait()


class _Inbox:
    """A queue on every pipeline's alert topic."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._lock = threading.Lock()
        self._queue = ""
        self._received: list[dict[str, Any]] = []

    def subscribe(self, pipelines: Iterable[Deployed]) -> None:
        self._queue = self._lab.sqs.create_queue(QueueName="alerts-of-the-fault-tests")["QueueUrl"]
        arn = self._lab._arn(self._queue)
        for pipeline in pipelines:
            self._lab.sns.subscribe(
                TopicArn=pipeline.outputs["AlertTopicArn"],
                Protocol="sqs",
                Endpoint=arn,
                Attributes={"RawMessageDelivery": "true"},
            )

    def about(self, run_id: str) -> list[dict[str, Any]]:
        with self._lock:
            while messages := self._lab.sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get(
                "Messages"
            ):
                for message in messages:
                    self._received.append(json.loads(message["Body"]))
                    self._lab.sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
            return [alert for alert in self._received if alert["run_id"] == run_id]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a pipeline, and all that it left behind."""

    lab: Lab
    pipeline: Deployed
    run_id: str
    execution: str

    def describe(self, execution: str | None = None) -> dict[str, Any]:
        found: dict[str, Any] = self.lab.stepfunctions.describe_execution(
            executionArn=execution or self.execution
        )
        return found

    def status(self) -> str:
        return str(self.describe()["status"])

    def ended(self) -> Run:
        """Wait for the end, and for the closer that comes after it."""
        self.stopped()
        await_(
            f"the report on {self.run_id}",
            lambda: self.ledger.find_json(keys.run_report(self.run_id)),
            lab=self.lab,
        )
        return self

    def stopped(self) -> Run:
        """Wait for the end only: a run that was never planned has no report."""
        await_(f"the end of {self.run_id}", lambda: self.status() != "RUNNING", lab=self.lab)
        return self

    # What it left

    @property
    def ledger(self) -> Ledger:
        return Ledger(S3Store(self.pipeline.ledger_bucket, self.lab.s3))

    def output(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.describe()["output"])
        return found

    def cause(self) -> str:
        return str(self.describe().get("cause", ""))

    def stages(self) -> list[str]:
        """The stages that it is to go through."""
        names = self.pipeline.stages
        return names[names.index(json.loads(self.describe()["input"]).get("start_at", names[0])) :]

    def subject(self) -> str:
        """The stage that it started at, which is the one that it is about."""
        return self.stages()[0]

    def keys(self, stage: str | None = None) -> StageKeys:
        """Of a stage; like the next ones, of the one that the run is about unless told otherwise."""
        return StageKeys(self.run_id, stage or self.subject())

    def result(self, stage: str | None = None) -> dict[str, Any]:
        found: dict[str, Any] = self.ledger.read_json(self.keys(stage).result)
        return found

    def counts(self, stage: str | None = None) -> dict[str, int]:
        counts: dict[str, int] = self.result(stage)["counts"]
        return counts

    def tries(self, stage: str | None = None) -> int:
        return int(self.result(stage)["output"]["tries"])

    def arrived(self, stage: str | None = None) -> Counter[str]:
        """Ids of what a stage, or the last one, succeeded in, as its reader gets them."""
        return Counter(record_id for record_id, _ in self.successes(stage))

    def successes(self, stage: str | None = None) -> Iterator[tuple[str, Any]]:
        """Outputs of a stage, or of the last one, as its reader gets them; none where it left none."""
        key = self.keys(stage or self.stages()[-1]).successes
        if not self.ledger.find_json(key):
            return
        where = Pointer(bucket=self.ledger.bucket, key=key, format=SourceFormat.SUCCESSES)
        source = open_source(self.ledger.store, detect(self.ledger.store, where))
        count = sum(len(ids) for ids in source.ids())
        if count:
            for chunk in source.chunks([RowSpan(0, 0, count)]):
                yield from map(source.decode, chunk.rows)

    def row_id(self, line: int) -> str:
        """What a bad line of the run's list is called."""
        return read_plan(self.ledger, self.keys(self.stages()[0])).source.row_id(line)

    def failures(self, stage: str | None = None) -> dict[str, dict[str, Any]]:
        """Failure records of a stage, by record id."""
        if not self.result(stage)["output"]["failures"]:
            return {}
        records = [json.loads(line) for line in self.ledger.read_lines(self.keys(stage).failures)]
        assert len({record["ordinal"] for record in records}) == len(records)
        return {record["record_id"]: record for record in records}

    def alerts(self) -> list[dict[str, Any]]:
        return self.lab.alerts_about(self.run_id)

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ledger.read_json(keys.run_report(self.run_id))
        return found

    # What happened

    def executions(self, stage: str | None = None) -> list[str]:
        """The attempts of a stage that were executed, first to last."""
        machine = self.pipeline.machine(stage or self.subject()).replace(":stateMachine:", ":execution:")
        found = []
        for attempt in range(100):
            name = attempt_execution_name(self.run_id, attempt) if attempt else self.run_id
            if not self._exists(f"{machine}:{name}"):
                break
            found.append(f"{machine}:{name}")
        return found

    def _exists(self, execution: str) -> bool:
        try:
            self.describe(execution)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ExecutionDoesNotExist":
                raise
            return False
        return True

    def history(self, execution: str | None = None) -> list[dict[str, Any]]:
        pages = self.lab.stepfunctions.get_paginator("get_execution_history").paginate(
            executionArn=execution or self.execution, PaginationConfig={"PageSize": 1000}
        )
        return [event for page in pages for event in page["events"]]

    def states(self, execution: str) -> list[str]:
        """Names of the states that an execution went through."""
        return [
            event["stateEnteredEventDetails"]["name"]
            for event in self.history(execution)
            if event["type"].endswith("StateEntered")
        ]

    def task_failures(self, execution: str) -> list[str]:
        """Errors of an execution's tasks, those that were tried again included."""
        return [
            event["taskFailedEventDetails"]["error"]
            for event in self.history(execution)
            if event["type"] == "TaskFailed"
        ]

    def largest_payload(self) -> int:
        """Bytes of the largest input or output in the histories of all its executions."""
        executions = [
            self.execution,
            *(each for stage in self.pipeline.stages for each in self.executions(stage)),
        ]
        return max(_payload_bytes(event) for execution in executions for event in self.history(execution))

    # What every run has to be

    def assert_sound(self, *, good: Sequence[str], lost: Iterable[str] = ()) -> None:
        """Law 4 holds, every good record arrived exactly once, and the alerts name exactly the lost ones."""
        self.assert_conserved()
        assert set(self.failures()) == set(lost)
        assert dict(self.arrived()) == dict.fromkeys(good, 1)
        if self.status() == "SUCCEEDED":
            assert self.output()["lost"] == len(set(lost))
        self.assert_alerted(set(lost))
        assert self.largest_payload() < MAX_INLINE_BYTES

    def assert_conserved(self) -> None:
        """Law 4, by a count of our own beside Winnow's proof."""
        handed_on: int | None = None
        for stage in self.stages():
            if self.ledger.find_json(self.keys(stage).result) is None:
                break
            counts = self.counts(stage)
            assert counts["in"] == counts["succeeded"] + counts["skipped"] + counts["failed"], (stage, counts)
            assert len(self.failures(stage)) == counts["failed"]
            assert handed_on in (None, counts["in"] + counts["duplicates"])
            handed_on = sum(self.arrived(stage).values())
        proof = prove(self.ledger, self.run_id, status=self.status())
        assert proof.holds, proof.all_problems

    def assert_alerted(self, lost: set[str]) -> None:
        """The alerts name each lost record once, and no other: by example as far as examples go, all in a list."""
        alerts = self.alerts()
        named = [example["record_id"] for alert in alerts for example in alert["examples"]]
        assert len(named) == len(set(named))
        assert set(named) <= lost
        assert sum(alert["counts"]["new"] for alert in alerts if alert["counts"]) == len(lost)
        if all((alert["counts"] or {"new": 0})["new"] <= MAX_EXAMPLES for alert in alerts):
            assert set(named) == lost
        files = [alert["failures_file"]["key"] for alert in alerts if alert["failures_file"]]
        listed = {json.loads(line)["record_id"] for key in files for line in self.ledger.read_lines(key)}
        assert listed == lost

    def assert_slack_heard(self) -> None:
        """Slack has every alert of this run, once."""
        alerts = self.alerts()
        await_(f"Slack on {self.run_id}", lambda: len(self.messages()) >= len(alerts))
        assert len(self.messages()) == len(alerts)

    def messages(self) -> list[dict[str, Any]]:
        """What Slack was told of this run."""
        return self.lab.world.slack.about(self.run_id)


def _payload_bytes(event: Mapping[str, Any]) -> int:
    details = [value for key, value in event.items() if key.endswith("EventDetails")]
    texts = [str(part.get(name) or "") for part in details for name in ("input", "output")]
    return max((len(text.encode()) for text in texts), default=0)


def takes_long(drive: Callable[[Lab], Run]) -> Callable[[Lab], Run]:
    """A run that is better started among the first."""
    drive.takes_long = True  # type: ignore[attr-defined]
    return drive


def about(*drives: Callable[[Lab], Run]) -> pytest.MarkDecorator:
    """Mark a test as about a run, or about each of several; all of them are driven together."""
    return pytest.mark.parametrize("run", drives, ids=[drive.__name__ for drive in drives], indirect=True)
