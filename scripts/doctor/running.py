"""Checks of how a deployed pipeline is doing: its triggers, what could not be delivered, its alarms, its last runs."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from scripts.deployed.pipelines import DeployedPipeline
from scripts.deployed.runs import find_run
from scripts.doctor.check import CheckGroup, check
from scripts.doctor.context import DoctorContext
from scripts.doctor.examination import error_code
from scripts.doctor.finding import Finding
from scripts.doctor.stack import DeployedStack
from winnow.core import keys
from winnow.storage.executions import RUNNING

DEAD_LETTERS = "DeadLetters"
"""Part of the logical id of every queue at the end of a delivery."""
MAX_ALARM_NAMES = 100
"""DescribeAlarms takes so many names at once."""

RUNS_OF = timedelta(days=1)
MAX_RUNS = 50
"""The newest; to look at more would take a while."""
LOOKED_AT_ONCE = 8
CLOSED_WITHIN = timedelta(minutes=15)
"""Closing a large run takes its time; after this it is late."""


@check("triggers", CheckGroup.DEPLOYED)
def triggers(context: DoctorContext) -> Finding:
    """No rule is switched off: rules start runs, and close them."""
    events = context.client("events")
    disabled: dict[str, str] = {}
    rules = context.resources("AWS::Events::Rule")
    for resource in rules:
        # Of a rule on a bus of its own CloudFormation's id is BUS|NAME.
        bus, _, name = resource.physical_id.rpartition("|")
        rule = events.describe_rule(Name=name, **({"EventBusName": bus} if bus else {}))
        if rule["State"] == "DISABLED":
            disabled[name] = rule.get("Description") or name
    if disabled:
        return Finding.failed(
            f"switched off: {'; '.join(disabled.values())}",
            "If that is not meant:",
            f"aws events enable-rule --name {next(iter(disabled))}",
        )
    return Finding.ok(f"all {len(rules)} rules are on")


@check("dead letters", CheckGroup.DEPLOYED)
def dead_letters(context: DoctorContext) -> Finding:
    """Nothing waits that could not be delivered."""
    sqs = context.client("sqs")
    queues = [each for each in context.resources("AWS::SQS::Queue") if DEAD_LETTERS in each.logical_id]
    waiting: dict[str, int] = {}
    for queue in queues:
        url = queue.physical_id
        attributes = sqs.get_queue_attributes(
            QueueUrl=url,
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )["Attributes"]
        if count := sum(map(int, attributes.values())):
            waiting[url] = count
    if waiting:
        told = ", ".join(f"{count:,} in {url.rpartition('/')[2]}" for url, count in waiting.items())
        return Finding.failed(
            f"messages wait that could not be delivered: {told}",
            "Read them; they stay in the queue:",
            f"aws sqs receive-message --visibility-timeout 0 --max-number-of-messages 10 --queue-url {next(iter(waiting))}",
        )
    return Finding.ok(f"all {len(queues)} queues of what could not be delivered are empty")


@check("alarms", CheckGroup.DEPLOYED)
def alarms(context: DoctorContext) -> Finding:
    """No alarm is in ALARM now."""
    cloudwatch = context.client("cloudwatch")
    names = [each.physical_id for each in context.resources("AWS::CloudWatch::Alarm")]
    ringing: list[str] = []
    for start in range(0, len(names), MAX_ALARM_NAMES):
        found = cloudwatch.describe_alarms(
            AlarmNames=names[start : start + MAX_ALARM_NAMES], StateValue="ALARM", MaxRecords=MAX_ALARM_NAMES
        )
        ringing += [each.get("AlarmDescription") or each["AlarmName"] for each in found["MetricAlarms"]]
    if ringing:
        return Finding.warning(
            f"{len(ringing)} of {len(names)} in ALARM: {' '.join(ringing)}",
            "See since when, and why:",
            "aws cloudwatch describe-alarms --state-value ALARM",
        )
    return Finding.ok(f"none of {len(names)} is in ALARM")


@check("runs", CheckGroup.DEPLOYED)
def runs(context: DoctorContext) -> Finding:
    """Each run that ended within a day was closed: its proof is in the ledger."""
    outputs = context.stack().outputs
    now = datetime.fromtimestamp(context.clock(), UTC)
    ended = list(_ended(context.client("stepfunctions"), outputs["PipelineArn"], now - RUNS_OF))
    if not ended:
        return Finding.ok("none ended within a day")
    with ThreadPoolExecutor(LOOKED_AT_ONCE) as pool:
        closed = list(pool.map(partial(_is_closed, context), ended))
    pending = [execution for execution, is_closed in zip(ended, closed, strict=True) if not is_closed]
    late = [each["name"] for each in pending if now - each["stopDate"] > CLOSED_WITHIN]
    of = f"of {len(ended)} that ended within a day"
    if late:
        return Finding.failed(
            f"{len(late)} {of} were not closed, so nothing proves that they lost no record: {', '.join(late[:3])}",
            "See whether the run closer fails (alarms and dead letters, above). The proof itself:",
            f"winnow verify {late[0]}{' --local' if context.target.is_local else ''}",
        )
    if pending:
        return Finding.ok(f"{len(pending)} {of} are being closed, the others are closed")
    return Finding.ok(f"all {len(ended)} that ended within a day are closed")


def _ended(machines: Any, machine: str, since: datetime) -> Iterator[Mapping[str, Any]]:
    """Executions that ended, newest first."""
    count = 0
    for page in machines.get_paginator("list_executions").paginate(stateMachineArn=machine):
        for execution in page["executions"]:
            if execution["startDate"] < since or count == MAX_RUNS:
                return
            if execution["status"] not in RUNNING and execution.get("stopDate"):
                count += 1
                yield execution


def _is_closed(context: DoctorContext, execution: Mapping[str, Any]) -> bool:
    """Whether a run's report is there, or it needs none: it stepped aside, or was never planned."""
    pipeline = _pipeline(context.stack())
    found = find_run(context.target, execution["executionArn"], [pipeline])
    if found is None or found.stepped_aside:
        return True
    try:
        context.client("s3").head_object(Bucket=pipeline.ledger_bucket, Key=keys.run_report(found.run_id))
    except ClientError as error:
        if error_code(error) in {"404", "NoSuchKey"}:
            return False
        raise
    return True


def _pipeline(stack: DeployedStack) -> DeployedPipeline:
    return DeployedPipeline(
        name=stack.pipeline,
        arn=stack.outputs["PipelineArn"],
        stages=stack.stages,
        ledger_bucket=stack.outputs["LedgerBucket"],
        source_bucket=stack.outputs["SourceBucket"],
        source_prefix=stack.outputs.get("SourcePrefix", ""),
        state_table=stack.outputs.get("StateTable", ""),
    )
