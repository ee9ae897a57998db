"""An account as checks see it: what each AWS call answers, said by the test. What is not said is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from scripts.deployed.target import Target
from scripts.doctor.context import DoctorContext

ACCOUNT = "123456789012"
ME = f"arn:aws:sts::{ACCOUNT}:assumed-role/operators/me"
NOW = 1_767_225_600.0
"""2026-01-01T00:00:00Z, on the machine and in AWS's answers."""
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
ENDPOINT = "http://127.0.0.1:4566"
"""Of every service, as with an emulator."""
IDENTITY = {
    "Account": ACCOUNT,
    "Arn": ME,
    "ResponseMetadata": {"HTTPHeaders": {"date": DATE}},
}


def aws_error(code: str, message: str = "no", operation: str = "Operation", **headers: str) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": message}}
    response["ResponseMetadata"] = {"HTTPHeaders": headers}
    return ClientError(response, operation)


def denied(permission: str) -> ClientError:
    """A refusal as most services word it."""
    message = (
        f"User: {ME} is not authorized to perform: {permission} on resource: * because no policy allows it"
    )
    return aws_error("AccessDenied", message, permission.partition(":")[2])


class Account:
    """Answers `client("sqs").get_queue_attributes(…)` with `answers["sqs.get_queue_attributes"]`.

    An answer is a dict, an exception to raise, or a function of the call's arguments that returns either.
    """

    def __init__(
        self, answers: Mapping[str, Any], region: str = "eu-west-1", clients: Mapping[str, Any] | None = None
    ) -> None:
        self.region = region
        self._clients = clients or {}
        self._answers = {"sts.get_caller_identity": IDENTITY, **answers}
        self.calls: list[str] = []

    def client(self, service: str) -> Any:
        return self._clients.get(service) or _Client(self, service)

    def answer(self, call: str, arguments: Mapping[str, Any]) -> Any:
        self.calls.append(call)
        answer = self._answers[call]
        if callable(answer):
            answer = answer(**arguments)
        if isinstance(answer, Exception):
            raise answer
        return answer


@cache
def real(service: str) -> Any:
    """The real client of a service, which knows its operations; it is never called."""
    return boto3.client(service, region_name="eu-west-1")


def check_call(service: str, operation: str, arguments: Mapping[str, Any]) -> None:
    """What AWS would refuse by its form, this refuses, too."""
    client = real(service)
    model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation])
    report = ParamValidator().validate(arguments, model.input_shape) if model.input_shape else None
    assert not (report and report.has_errors()), report.generate_report()


class _Client:
    def __init__(self, account: Account, service: str) -> None:
        self._account = account
        self._service = service
        self.meta = SimpleNamespace(region_name=account.region, endpoint_url=ENDPOINT)

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            check_call(self._service, operation, arguments)
            return self._account.answer(f"{self._service}.{operation}", arguments)

        return call

    def get_paginator(self, operation: str) -> _Pages:
        assert real(self._service).can_paginate(operation), f"{operation} has no pages"
        return _Pages(self._account, self._service, operation)


class _Pages:
    def __init__(self, account: Account, service: str, operation: str) -> None:
        self._account = account
        self._service = service
        self._operation = operation

    def paginate(self, **arguments: Any) -> Iterator[Any]:
        check_call(self._service, self._operation, arguments)
        yield self._account.answer(f"{self._service}.{self._operation}", arguments)


OUTPUTS = {
    "PipelineName": "books",
    "PipelineArn": f"arn:aws:states:eu-west-1:{ACCOUNT}:stateMachine:books",
    "Environment": "dev",
    "StageNames": "clean,index",
    "LedgerBucket": "ledger",
    "SourceBucket": "source",
    "StateTable": "state",
    "RegisterTable": "register",
    "AlertTopicArn": f"arn:aws:sns:eu-west-1:{ACCOUNT}:alerts",
    "CleanWorkerName": "clean-worker",
    "CleanCodeVersion": "aaaa",
    "CleanMachineArn": f"arn:aws:states:eu-west-1:{ACCOUNT}:stateMachine:clean",
    "IndexWorkerName": "index-worker",
    "IndexCodeVersion": "bbbb",
    "IndexMachineArn": f"arn:aws:states:eu-west-1:{ACCOUNT}:stateMachine:index",
}


def stack(**changes: Any) -> dict[str, Any]:
    """A stack as CloudFormation describes it; `outputs` are added to those that a pipeline has."""
    outputs = {**OUTPUTS, **changes.pop("outputs", {})}
    return {
        "StackName": "books-dev",
        "StackStatus": "UPDATE_COMPLETE",
        "EnableTerminationProtection": False,
        "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()],
        "Tags": [{"Key": "project", "Value": "winnow"}, {"Key": "environment", "Value": "dev"}],
        **changes,
    }


def context(
    answers: Mapping[str, Any] | None = None,
    *,
    stacks: list[dict[str, Any]] | None = None,
    is_local: bool = False,
    region: str = "eu-west-1",
    clients: Mapping[str, Any] | None = None,
    **more: Any,
) -> DoctorContext:
    """A context of environment dev in which `books` is deployed, unless `stacks` says otherwise.

    `clients` are whole clients, by service, where answers would not do.
    """
    described = {"Stacks": [stack()] if stacks is None else stacks}
    account = Account({"cloudformation.describe_stacks": described, **(answers or {})}, region, clients)
    target = Target(name="the account of the test", is_local=is_local, client=account.client)
    more = {
        "environment": "dev",
        "variables": {"AWS_REGION": "eu-west-1"},
        "profiles": dict,
        "clock": lambda: NOW,
        **more,
    }
    return DoctorContext(target=target, **more)


def clone(folder: Path, **settings: Any) -> Path:
    """A clone that has a cdk.json, with these settings of environment dev."""
    document = {"context": {"environment": "dev", "environments": {"dev": settings}}}
    (folder / "cdk.json").write_text(json.dumps(document))
    return folder


def made(*resources: tuple[str, str, str]) -> dict[str, Any]:
    """What ListStackResources answers, of type, logical id and physical id each."""
    names = ("ResourceType", "LogicalResourceId", "PhysicalResourceId")
    return {"StackResourceSummaries": [dict(zip(names, each, strict=True)) for each in resources]}
