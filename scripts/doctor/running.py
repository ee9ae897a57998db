"""Checks of how a deployed pipeline is doing: its triggers, what could not be delivered, its alarms, its last runs."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from scripts.doctor.check import CheckGroup, check
from scripts.doctor.context import DoctorContext
from scripts.doctor.finding import Finding
from winnow.runs.closer import closed_mark
from winnow.runs.sweeper import LEAVE_TO_EVENT
from winnow.storage.executions import StepFunctions
from winnow.storage.state_table import DynamoStateTable

DEAD_LETTERS = "DeadLetters"
"""Part of the logical id of every queue at the end of a delivery."""
MAX_ALARM_NAMES = 100
"""DescribeAlarms takes so many names at once."""

RUNS_OF = timedelta(days=1)
MAX_RUNS = 50
"""The newest; to look at more would take a while."""
LOOKED_AT_ONCE = 8
CLOSED_WITHIN = timedelta(minutes=90)
"""The sweep comes each hour, and takes up to a quarter of one."""


@check("triggers", CheckGroup.DEPLOYED)
def triggers(context: DoctorContext) -> Finding:
    """No rule is switched off: rules start runs, and close them."""
    events = context.client("events")
    disabled: dict[tuple[str, str], str] = {}
    rules = context.resources("AWS::Events::Rule")
    for resource in rules:
        # Of a rule on a bus of its own CloudFormation's id is BUS|NAME.
        bus, _, name = resource.physical_id.rpartition("|")
        rule = events.describe_rule(Name=name, **({"EventBusName": bus} if bus else {}))
        if rule["State"] == "DISABLED":
            disabled[bus, name] = rule.get("Description") or name
    if disabled:
        bus, name = next(iter(disabled))
        told = ", ".join(f'"{each}"' for each in disabled.values())
        return Finding.failed(
            f"{len(disabled)} of {len(rules)} rules switched off: {told}",
            "Unless that is on purpose, switch the first of them on:"
            if len(disabled) > 1
            else "Unless that is on purpose:",
            f"aws events enable-rule --name {name}{f' --event-bus-name {bus}' if bus else ''}",
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
            "Read them (they stay in the queue), and do what docs/operating.md says of dead letters:",
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
    """Each run that ended within a day was closed, which proves it: at once by an event, or later by the sweep."""
    outputs = context.stack().outputs
    now = datetime.fromtimestamp(context.clock(), UTC)
    machine = StepFunctions(machine_arn=outputs["PipelineArn"], stepfunctions=context.client("stepfunctions"))
    ended = sorted(machine.ended(since=now - RUNS_OF), key=lambda each: each.stopped)[-MAX_RUNS:]
    if not ended:
        return Finding.ok("none ended within a day")
    state = DynamoStateTable(outputs["StateTable"], context.client("dynamodb"))
    with ThreadPoolExecutor(LOOKED_AT_ONCE) as pool:
        closed = pool.map(lambda each: state.is_marked(each.arn, closed_mark(each.redrives)), ended)
        pending = [each for each, is_closed in zip(ended, closed, strict=True) if not is_closed]
    late = [each for each in pending if now - each.stopped > CLOSED_WITHIN]
    missed = [each for each in pending if now - each.stopped > LEAVE_TO_EVENT]
    of = f"of {len(ended)} that ended within a day"
    if late:
        aim = context.target.options(context.environment)
        return Finding.failed(
            f"{len(late)} {of} were not closed, so nothing proves that they lost no record",
            "See whether the run closer fails (alarms and dead letters, above). The proof of the first of them:",
            f"winnow verify {late[0].arn.rpartition(':')[2]}{aim}",
        )
    if missed:
        return Finding.warning(f"{len(missed)} {of} were not closed yet; the sweep of each hour closes them")
    if pending:
        return Finding.ok(f"{len(pending)} {of} are being closed, the others are closed")
    return Finding.ok(f"all {len(ended)} that ended within a day are closed")
