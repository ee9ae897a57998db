"""Whether the operator may do what the command line does."""

import re
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from scripts.doctor.check import CheckGroup, check
from scripts.doctor.context import DoctorContext
from scripts.doctor.examination import DENIED, error_code
from scripts.doctor.finding import Finding, NotExamined
from scripts.doctor.stack import DeployedStack
from winnow.core.keys import REPLAYS, RUNS, run_source

ALLOWED = "allowed"
MAX_TOLD = 5

TABLE_ACTIONS = {
    "StateTable": ("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:DeleteItem"),
    "RegisterTable": ("dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:PutItem"),
}
"""By the output that names the table."""

ASSUMED_ROLE = re.compile(r"arn:(?P<partition>[^:]+):sts::(?P<account>\d+):assumed-role/(?P<role>[^/]+)/.+")


@check("permissions", CheckGroup.DEPLOYED)
def permissions(context: DoctorContext) -> Finding:
    """We may do what `winnow run`, `verify` and `replay` do here, as IAM's simulator sees it."""
    stack, iam = context.stack(), context.client("iam")
    principal = _principal(iam, context.identity().arn)
    missing: list[str] = []
    count = 0
    try:
        for resources, actions in needed(stack).items():
            results = _simulate(iam, principal, resources, actions)
            count += len(actions)
            missing += sorted({action for action, decision in results if decision != ALLOWED})
    except ClientError as error:
        if error_code(error) in {"NoSuchEntity", "InvalidInput", "ValidationError"}:
            raise NotExamined(f"IAM's simulator does not know {principal}") from None
        raise
    if missing:
        more = f" and {len(missing) - MAX_TOLD} more" if len(missing) > MAX_TOLD else ""
        return Finding.warning(
            f"you may not do all that the command line does: {', '.join(missing[:MAX_TOLD])}{more}",
            "If you are to run and replay here, ask for the policies that the stack's output OperatorPolicyArns names; looking on "
            "takes those of ViewerPolicyArns.",
        )
    return Finding.ok(
        f"you may do all that the command line does ({count} actions, as IAM's simulator sees them)"
    )


def needed(stack: DeployedStack) -> dict[tuple[str, ...], tuple[str, ...]]:
    """What the command line does, by the resources that it does it on."""
    outputs = stack.outputs
    arn = _Arns.of(outputs["PipelineArn"])
    machine = outputs["PipelineArn"]
    ledger, source = outputs["LedgerBucket"], outputs["SourceBucket"]
    workers = stack.of_stages("WorkerName").values()
    records = f"{arn.bucket(source)}/{outputs.get('SourcePrefix', '')}any"
    tables: dict[tuple[str, ...], tuple[str, ...]] = {
        (arn.in_region("dynamodb", f"table/{outputs[key]}"),): actions
        for key, actions in TABLE_ACTIONS.items()
        if key in outputs
    }
    by_resource = {
        ("*",): ("cloudformation:DescribeStacks",),
        (machine,): ("states:StartExecution", "states:ListExecutions"),
        (f"{machine.replace(':stateMachine:', ':execution:')}:any",): ("states:DescribeExecution",),
        (arn.bucket(ledger), arn.bucket(source)): ("s3:ListBucket",),
        (f"{arn.bucket(ledger)}/{RUNS}any", f"{arn.bucket(ledger)}/{REPLAYS}any", records): ("s3:GetObject",),
        (f"{arn.bucket(ledger)}/{run_source('any')}", f"{arn.bucket(ledger)}/{REPLAYS}any", records): (
            "s3:PutObject",
        ),
        **tables,
        tuple(arn.in_region("lambda", f"function:{name}") for name in workers): (
            "lambda:GetFunctionConfiguration",
        ),
    }
    return {resources: actions for resources, actions in by_resource.items() if resources}


class _Arns:
    """Makes ARNs of the partition, region and account that another ARN is of."""

    def __init__(self, partition: str, region: str, account: str) -> None:
        self._partition = partition
        self._region = region
        self._account = account

    @classmethod
    def of(cls, arn: str) -> "_Arns":
        _, partition, _, region, account, *_ = arn.split(":")
        return cls(partition, region, account)

    def bucket(self, name: str) -> str:
        return f"arn:{self._partition}:s3:::{name}"

    def in_region(self, service: str, resource: str) -> str:
        return f"arn:{self._partition}:{service}:{self._region}:{self._account}:{resource}"


def _principal(iam: Any, arn: str) -> str:
    """The user or role whose policies decide; of a session the role's, whose path the session's ARN leaves out.

    Raises:
        NotExamined: there is none that the simulator takes.
    """
    if arn.endswith(":root"):
        raise NotExamined("the account's root user may do everything; use a role instead")
    session = ASSUMED_ROLE.fullmatch(arn)
    if session is None:
        if ":user/" in arn:
            return arn
        raise NotExamined(f"IAM's simulator knows users and roles, not {arn}")
    try:
        found: Mapping[str, Any] = iam.get_role(RoleName=session["role"])["Role"]
    except ClientError as error:
        if error_code(error) not in DENIED:
            raise
        return f"arn:{session['partition']}:iam::{session['account']}:role/{session['role']}"
    return str(found["Arn"])


def _simulate(
    iam: Any, principal: str, resources: tuple[str, ...], actions: tuple[str, ...]
) -> list[tuple[str, str]]:
    """The decisions on each action, one a resource."""
    pages = iam.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn=principal, ActionNames=list(actions), ResourceArns=list(resources)
    )
    return [
        (result["EvalActionName"], decision)
        for page in pages
        for result in page["EvaluationResults"]
        for decision in _decisions(result)
    ]


def _decisions(result: Mapping[str, Any]) -> list[str]:
    """The decision on each resource; the one of all where it is not split up."""
    each = [one["EvalResourceDecision"] for one in result.get("ResourceSpecificResults", ())]
    return each or [result["EvalDecision"]]
