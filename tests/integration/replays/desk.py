"""An operator's desk: the example's pipeline in an emulator, its alerts, its failures, and `winnow replay`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scripts import ROOT
from scripts.replay.site import Site
from tests.integration.conftest import WINNOW, Deployment, deployed
from tests.integration.faults.lab import _payload_bytes, await_
from tests.integration.faults.loopback import Proxy
from tests.patience import PATIENCE_SECONDS
from winnow.core import keys
from winnow.core.keys import StageKeys
from winnow.register.entry import Entry
from winnow.register.item import partition
from winnow.storage.ledger import Ledger
from winnow.storage.store import S3Store

STAGES = ("adapt", "transform", "mint")


class Desk:
    """What an operator does and sees."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.pipeline = deployment.pipeline
        client = deployment.target.client
        self.s3 = client("s3")
        self.sqs = client("sqs")
        self.dynamodb = client("dynamodb")
        self.lambdas = client("lambda")
        self.cloudformation = client("cloudformation")
        self.stepfunctions = client("stepfunctions")
        self.ledger = Ledger(S3Store(self.pipeline.ledger_bucket, self.s3))
        self._received: list[dict[str, Any]] = []
        self._inbox = self._subscribe(client("sns"))

    # What there is

    @property
    def site(self) -> Site:
        """As the commands see it now."""
        return Site.open(self.deployment.target, None)

    @property
    def stack(self) -> str:
        found = self.cloudformation.describe_stacks()["Stacks"]
        [name] = [each["StackName"] for each in found if each["StackName"].startswith("catalogue")]
        return str(name)

    def outputs(self) -> dict[str, str]:
        [stack] = self.cloudformation.describe_stacks(StackName=self.stack)["Stacks"]
        return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}

    def function(self, handler: str) -> dict[str, Any]:
        """The configuration of one of the pipeline's own functions."""
        [found] = [
            function
            for page in self.lambdas.get_paginator("list_functions").paginate()
            for function in page["Functions"]
            if function["Handler"] == f"winnow.handlers.{handler}.handler"
        ]
        return dict(found)

    # What people do

    def winnow(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line, aimed at the emulator."""
        return subprocess.run(
            [WINNOW, *arguments],
            env=self.deployment.emulator.endpoint.environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def replay(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.winnow("replay", *arguments)

    def lines(self, *arguments: str) -> list[dict[str, Any]]:
        """What a replay command prints as ndjson."""
        done = self.replay(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def started(self, *arguments: str) -> str:
        """Execute a replay, await its end and its closing; its id."""
        [line] = self.lines("run", *arguments, "--execute")
        assert line["started"], line
        return self.closed(line["replay_id"])

    def upload_and_run(self, source: Path) -> tuple[int, str]:
        """Upload files and run over them; the exit code, and the run once it is closed."""
        done = self.winnow("run", "catalogue", "--source", str(source), "--include", "*.xml", "--json")
        assert done.stdout, done.stderr
        return done.returncode, self.closed(json.loads(done.stdout)["run_id"])

    def put(self, files: Mapping[str, str]) -> list[dict[str, Any]]:
        """Put files into the source; the records of a run over them."""
        bucket = self.pipeline.source_bucket
        for key, text in files.items():
            self.s3.put_object(Bucket=bucket, Key=key, Body=text.encode())
        return [{"id": key, "data": {"bucket": bucket, "key": key}} for key in files]

    def run(self, records: Iterable[Mapping[str, Any] | str], run_id: str, **given: Any) -> str:
        """Run over a list of records; the run once it is closed."""
        key = f"inputs/{run_id}.ndjson"
        body = "".join(json.dumps(record) + "\n" for record in records)
        self.s3.put_object(Bucket=self.pipeline.ledger_bucket, Key=key, Body=body.encode())
        self.start({"run_id": run_id, "records": self.ledger.pointer(key), **given}, name=run_id)
        return self.closed(run_id)

    def start(self, given: object, *, name: str) -> str:
        """Start an execution of the pipeline; its ARN."""
        answer = self.stepfunctions.start_execution(
            stateMachineArn=self.pipeline.arn, name=name, input=json.dumps(given)
        )
        return str(answer["executionArn"])

    def stop(self, run_id: str) -> None:
        """Stop a run by hand, and as Step Functions does, the stages' executions that it waits for."""
        self.stepfunctions.stop_execution(
            executionArn=self.execution(run_id), error="Operator", cause="stopped by hand"
        )
        for machine in self.stepfunctions.list_state_machines()["stateMachines"]:
            pages = self.stepfunctions.get_paginator("list_executions").paginate(
                stateMachineArn=machine["stateMachineArn"], statusFilter="RUNNING"
            )
            for execution in [each for page in pages for each in page["executions"]]:
                if execution["name"].startswith(run_id):
                    with suppress(self.stepfunctions.exceptions.ClientError):  # it ended by itself
                        self.stepfunctions.stop_execution(executionArn=execution["executionArn"])

    def forget(self, stage: str, record_id: str) -> None:
        """Delete an entry of the register, which no part of Winnow does."""
        key = {"pk": {"S": partition(self.pipeline.name, stage, record_id)}, "sk": {"S": record_id}}
        self.dynamodb.delete_item(TableName=self.pipeline.register_table, Key=key)

    @contextmanager
    def pointed_elsewhere(self, handler: str) -> Iterator[None]:
        """One of the pipeline's own functions, with a register that does not answer."""
        function = self.function(handler)
        name, variables = function["FunctionName"], function["Environment"]["Variables"]

        def update(**changed: str) -> None:
            self.lambdas.update_function_configuration(
                FunctionName=name, Environment={"Variables": variables | changed}
            )

        update(WINNOW_REGISTER_TABLE="gone")
        try:
            yield
        finally:
            update()

    def close_again(self, run_id: str) -> None:
        """Deliver the event of a run's end once more."""
        ended = self.describe(self.execution(run_id))
        moments = {name: int(ended[name].timestamp() * 1000) for name in ("startDate", "stopDate")}
        names = ("executionArn", "stateMachineArn", "name", "status", "input", "output")
        detail = {name: ended[name] for name in names} | moments
        answer = self.lambdas.invoke(
            FunctionName=self.function("close_run")["FunctionName"],
            Payload=json.dumps({"detail-type": "Step Functions Execution Status Change", "detail": detail}),
        )
        assert "FunctionError" not in answer, answer["Payload"].read()

    def lead_through(self, proxy: Proxy, *, stage: str) -> None:
        """Have a stage's worker reach S3 through a proxy, which can keep it waiting."""
        proxy.upstream = self.deployment.emulator.endpoint.url
        [worker] = [
            function
            for page in self.lambdas.get_paginator("list_functions").paginate()
            for function in page["Functions"]
            if function["Environment"]["Variables"].get("WINNOW_STAGE") == stage
        ]
        self.lambdas.update_function_configuration(
            FunctionName=worker["FunctionName"],
            Environment={
                "Variables": {**worker["Environment"]["Variables"], "AWS_ENDPOINT_URL_S3": proxy.url}
            },
        )

    def deploy_worker(self, stage: str, *, handler: str, version: str) -> None:
        """Deploy the stack with another worker, as after a change to its code."""
        template = self.cloudformation.get_template(StackName=self.stack)["TemplateBody"]
        template = json.loads(template) if isinstance(template, str) else template
        [worker] = [
            each["Properties"]
            for each in template["Resources"].values()
            if _variables(each).get("WINNOW_STAGE") == stage
        ]
        worker["Handler"] = handler
        worker["Environment"]["Variables"]["WINNOW_CODE_VERSION"] = version
        template["Outputs"][f"{stage.title()}CodeVersion"]["Value"] = version
        where = {"Bucket": self.pipeline.ledger_bucket, "Key": f"templates/{version}.json"}
        self.s3.put_object(**where, Body=json.dumps(template).encode())
        self.cloudformation.update_stack(
            StackName=self.stack,
            TemplateURL=f"{self.deployment.emulator.endpoint.url}/{where['Bucket']}/{where['Key']}",
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
        )
        await_("the deployment", lambda: self._status_of_stack() == "UPDATE_COMPLETE")
        assert self.outputs()[f"{stage.title()}CodeVersion"] == version

    def _status_of_stack(self) -> str:
        return str(self.cloudformation.describe_stacks(StackName=self.stack)["Stacks"][0]["StackStatus"])

    # What becomes of it

    def execution(self, run_id: str) -> str:
        return f"{self.pipeline.arn.replace(':stateMachine:', ':execution:')}:{run_id}"

    def describe(self, execution: str) -> dict[str, Any]:
        return dict(self.stepfunctions.describe_execution(executionArn=execution))

    def status(self, run_id: str) -> str:
        return str(self.describe(self.execution(run_id))["status"])

    def executions(self) -> list[str]:
        """Names of the pipeline's executions."""
        pages = self.stepfunctions.get_paginator("list_executions").paginate(
            stateMachineArn=self.pipeline.arn
        )
        return [each["name"] for page in pages for each in page["executions"]]

    def largest_payload(self, run_id: str) -> int:
        """Bytes of the largest input or output of any state in all of a run's executions."""
        machines = self.stepfunctions.list_state_machines()["stateMachines"]
        executions = [
            execution["executionArn"]
            for machine in machines
            for page in self.stepfunctions.get_paginator("list_executions").paginate(
                stateMachineArn=machine["stateMachineArn"]
            )
            for execution in page["executions"]
            if execution["name"].startswith(run_id)
        ]
        assert len(executions) > 1
        return max(
            _payload_bytes(event)
            for execution in executions
            for page in self.stepfunctions.get_paginator("get_execution_history").paginate(
                executionArn=execution
            )
            for event in page["events"]
        )

    def closed(self, run_id: str) -> str:
        """Wait until a run has ended and the closer has reported on it."""
        await_(f"the report on {run_id}", lambda: self.report(run_id))
        return run_id

    def report(self, run_id: str) -> dict[str, Any] | None:
        return self.ledger.find_json(keys.run_report(run_id))

    def counts(self, run_id: str, stage: str) -> tuple[int, int, int, int]:
        """in, succeeded, skipped, failed."""
        counts = self.ledger.read_json(StageKeys(run_id, stage).result)["counts"]
        return counts["in"], counts["succeeded"], counts["skipped"], counts["failed"]

    def entry(self, stage: str, record_id: str) -> Entry:
        found = self.site.register.find(self.pipeline.name, stage, record_id)
        assert found is not None
        return found

    def entries(self) -> dict[tuple[str, str], Entry]:
        """The whole register."""
        site = self.site
        return {
            (stage, entry.record_id): entry
            for stage in STAGES
            for entry in site.entries_of(
                stage, [each.record_id for each in site.register.all(self.pipeline.name, stage)]
            )
        }

    def statuses(self, stage: str) -> dict[str, str]:
        entries = self.site.register.all(self.pipeline.name, stage)
        return {entry.record_id: entry.status.value for entry in entries}

    # What people are told

    def _subscribe(self, sns: Any) -> str:
        queue = self.sqs.create_queue(QueueName="alerts")["QueueUrl"]
        answer = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        sns.subscribe(
            TopicArn=self.outputs()["AlertTopicArn"],
            Protocol="sqs",
            Endpoint=answer["Attributes"]["QueueArn"],
            Attributes={"RawMessageDelivery": "true"},
        )
        return str(queue)

    def alerts(self, run_id: str) -> list[dict[str, Any]]:
        """The alerts on a run that has been closed: there come no more."""
        while messages := self.sqs.receive_message(QueueUrl=self._inbox, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for message in messages:
                self._received.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=self._inbox, ReceiptHandle=message["ReceiptHandle"])
        return [alert for alert in self._received if alert["run_id"] == run_id]


def _variables(resource: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = resource.get("Properties", {}).get("Environment", {}).get("Variables", {})
    return found if isinstance(found, dict) else {}


@contextmanager
def open_desk(home: Path) -> Iterator[Desk]:
    with deployed(home) as made:
        yield Desk(made)
