"""Checks of a deployed stack: its status, what it made, and its protection."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from scripts.doctor.check import CheckGroup, check
from scripts.doctor.context import DoctorContext
from scripts.doctor.examination import DENIED, error_code, missing_permission
from scripts.doctor.finding import Finding, NotExamined
from scripts.doctor.stack import DeployedStack
from stacks.settings import Removal
from winnow.alerts.wording import LOCAL

COMPLETE = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"})
ROLLED_BACK = frozenset({"UPDATE_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"})
"""The last deploy failed; what was there before is there again."""
GONE = frozenset(
    {
        "404",
        "NoSuchBucket",
        "ResourceNotFoundException",
        "StateMachineDoesNotExist",
        "AWS.SimpleQueueService.NonExistentQueue",
    }
)


@check("names", CheckGroup.ACCOUNT)
def names(context: DoctorContext) -> Finding:
    """No two stacks hold the same pipeline of the same environment: commands could reach either."""
    stacks = context.stacks()
    by_name: dict[tuple[str, str], list[str]] = {}
    for stack in stacks:
        by_name.setdefault((stack.pipeline, stack.environment), []).append(stack.name)
    twice = {of: held for of, held in by_name.items() if len(held) > 1}
    if twice:
        (pipeline, environment), held = next(iter(twice.items()))
        return Finding.failed(
            f"stacks {' and '.join(held)} both hold pipeline {pipeline} of environment {environment}",
            "Delete one, or deploy it under another name or environment.",
        )
    there = ", ".join(f"{stack.pipeline} ({stack.environment})" for stack in stacks) or "none yet"
    return Finding.ok(f"pipelines here: {there}")


@check("stack", CheckGroup.DEPLOYED)
def stack(context: DoctorContext) -> Finding:
    """The stack is deployed, and its last deploy went through."""
    try:
        context.stacks()
    except ClientError as error:
        if error_code(error) in DENIED:
            return Finding.failed(
                f"you lack the permission {missing_permission(error)}, without which no command finds a pipeline",
                "Ask for it, or work as someone who has it.",
            )
        raise
    try:
        found = context.stack(whole=False)
    except NotExamined as reason:
        deploy = f"npx cdk deploy -c environment={context.environment}"
        # `local up` deploys the environment of that name; another may be on an emulator, too.
        command = "winnow local up" if context.target.is_local and context.environment == LOCAL else deploy
        return Finding.skipped(str(reason), "When all above is well, deploy it:", command)
    return _status(found)


def _status(found: DeployedStack) -> Finding:
    events = f"aws cloudformation describe-stack-events --stack-name {found.name} --max-items 20"
    reason = f": {found.status_reason}" if found.status_reason else ""
    if found.status in COMPLETE:
        return Finding.ok(f"{found.name} is {found.status}")
    if found.status in ROLLED_BACK:
        return Finding.warning(
            f"{found.name} is {found.status}: the last deploy failed, and what was there before runs on{reason}",
            "See why:",
            events,
        )
    if found.status.endswith("_IN_PROGRESS"):
        return Finding.warning(f"{found.name} is {found.status}", "Wait for its end, and look again.")
    if found.status == "ROLLBACK_COMPLETE":
        return Finding.failed(
            f"{found.name} is {found.status}: its first deploy failed{reason}",
            "CloudFormation cannot update it. See why, then delete it (npx cdk destroy) and deploy again:",
            events,
        )
    return Finding.failed(f"{found.name} is {found.status}{reason}", "See why:", events)


@check("protection", CheckGroup.DEPLOYED)
def protection(context: DoctorContext) -> Finding:
    """A stack whose data is to stay cannot be deleted by one command."""
    found, removal = context.stack(), context.settings().removal
    if removal is Removal.RETAIN and not found.termination_protection:
        return Finding.warning(
            "data is kept (removal: retain), but the stack can be deleted by one command",
            "Protect it:",
            f"aws cloudformation update-termination-protection --enable-termination-protection --stack-name {found.name}",
        )
    protected = "on" if found.termination_protection else "off"
    return Finding.ok(f"termination protection is {protected}, removal: {removal}")


@check("resources", CheckGroup.DEPLOYED)
def resources(context: DoctorContext) -> Finding:
    """What the stack's outputs name exists, and is active."""
    problems, there, unseen = [], 0, set()
    for what, name, state in _resources(context):
        try:
            found = state()
        except ClientError as error:
            if error_code(error) in GONE:
                problems.append(f"{what} {name} does not exist")
            elif error_code(error) in DENIED | {"403"}:
                unseen.add(missing_permission(error))
            else:
                raise
            continue
        if found:
            problems.append(f"{what} {name} is {found}")
        there += 1
    if problems:
        return Finding.failed(
            "; ".join(problems),
            "Deploy again. What was deleted by hand CloudFormation does not notice: see what differs:",
            f"aws cloudformation detect-stack-drift --stack-name {context.stack().name}",
        )
    if unseen:
        return Finding.warning(
            f"{there} are there and active; the others you may not see: {', '.join(sorted(unseen))}"
        )
    return Finding.ok(f"all {there} that the outputs name are there and active")


def _resources(context: DoctorContext) -> Iterator[tuple[str, str, Callable[[], str]]]:
    """Kind and name of each resource, and a function that gives its state: empty where all is well."""
    found = context.stack()
    s3, dynamodb = context.client("s3"), context.client("dynamodb")
    machines, functions = context.client("stepfunctions"), context.client("lambda")
    for key in ("LedgerBucket", "SourceBucket"):
        if name := found.outputs.get(key):
            yield "bucket", name, partial(_bucket, s3, name)
    for key in ("StateTable", "RegisterTable"):
        if name := found.outputs.get(key):
            yield "table", name, partial(_table, dynamodb, name)
    for arn in (found.outputs.get("PipelineArn"), *found.of_stages("MachineArn").values()):
        if arn:
            yield "machine", arn.rpartition(":")[2], partial(_machine, machines, arn)
    for name in found.of_stages("WorkerName").values():
        yield "function", name, partial(_function, functions, name)


def _bucket(s3: Any, name: str) -> str:
    s3.head_bucket(Bucket=name)
    return ""


def _table(dynamodb: Any, name: str) -> str:
    status = dynamodb.describe_table(TableName=name)["Table"]["TableStatus"]
    return "" if status in {"ACTIVE", "UPDATING"} else str(status)


def _machine(machines: Any, arn: str) -> str:
    status = machines.describe_state_machine(stateMachineArn=arn).get("status", "ACTIVE")
    return "" if status == "ACTIVE" else str(status)


def _function(functions: Any, name: str) -> str:
    found = functions.get_function_configuration(FunctionName=name)
    state, update = found.get("State", "Active"), found.get("LastUpdateStatus", "Successful")
    if state not in {"Active", "Inactive"}:  # Lambda calls a function inactive that was not called for weeks
        return str(state)
    return (
        "" if update != "Failed" else f"of an update that failed: {found.get('LastUpdateStatusReason', '')}"
    )
