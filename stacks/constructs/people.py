"""What people may do with a pipeline: exactly what the command line does, on this pipeline alone."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from aws_cdk import Aws, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from stacks.constructs.nag import accept, accept_wildcard
from winnow.core.keys import REPLAYS, RUNS, StageKeys, run_source
from winnow.register.table import OWED_INDEX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from constructs import IConstruct

    from stacks.constructs.alerts import Alerts
    from stacks.constructs.ledger_bucket import LedgerBucket
    from stacks.constructs.machine import Machine
    from stacks.constructs.probe import Probe
    from stacks.constructs.publishing import Publishing
    from stacks.constructs.register import Register
    from stacks.constructs.run_state_table import RunStateTable
    from stacks.constructs.source_bucket import SourceBucket
    from stacks.constructs.stage import Stage

EVERYTHING = "*"
STARTED_WITH = (run_source("*"), StageKeys("*", "*").input, f"{REPLAYS}*")
"""Keys of the lists that the command line puts into the ledger."""
WILDCARD = re.compile(r"[*?]")
MAX_POLICY_CHARS = 6_144
"""Of a managed policy, without white space. A principal takes ten of them."""
REFERENCE_CHARS = 125
"""What a reference may become: the ARN of a state machine with a long name. Account, region and the like are shorter."""
PSEUDO_CHARS = 14
STATEMENT_CHARS = 60
MAX_RESOURCES = 20
"""Of one statement, so that a policy is full before it is too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineParts:
    """What people's commands read and change of a pipeline."""

    source: SourceBucket
    ledger: LedgerBucket
    state: RunStateTable
    register: Register
    alerts: Alerts
    machine: Machine
    stages: Mapping[str, Stage]
    publishing: Publishing | None
    probe: Probe
    everything: Sequence[IConstruct]
    """All constructs of the pipeline: its rules, queues and alarms are among them."""


class People(Construct):
    """Two sets of managed policies, to be attached to the groups, roles or permission sets of people.

    A viewer looks on: verify, replay list and show, what a replay would do, what is published, doctor. An operator also runs,
    replays, waives, sends test alerts, and moves what is published between its versions. Neither can deploy, write among a run's
    evidence, or delete anything but versions of what is published.

    IAM limits a policy's length, and each stage makes them longer, so a pipeline of many stages has more than one of each.
    """

    def __init__(self, scope: Construct, construct_id: str, *, pipeline: PipelineParts) -> None:
        super().__init__(scope, construct_id)
        viewer = [*_looks_on(pipeline), *_examines(Stack.of(self), pipeline)]
        self.viewer_policies = self._policies("Viewer", viewer)
        self.operator_policies = self._policies("Operator", [*viewer, *_changes(pipeline)])

    def _policies(self, name: str, statements: Sequence[iam.PolicyStatement]) -> list[iam.ManagedPolicy]:
        policies: list[iam.ManagedPolicy] = []
        for number, some in enumerate(_packed(Stack.of(self), statements), start=1):
            policy = iam.ManagedPolicy(
                self,
                name if number == 1 else f"{name}{number}",
                statements=some,
                description=f"{name} of a pipeline",
            )
            _accept(policy, some)
            policies.append(policy)
        return policies


def _looks_on(pipeline: PipelineParts) -> Iterator[iam.PolicyStatement]:
    """What `verify`, `replay list`, `replay show`, `publish list` and the like, and a replay that is not executed read."""
    ledger, source = pipeline.ledger.bucket, pipeline.source.bucket
    machines = [pipeline.machine, *(stage.machine for stage in pipeline.stages.values())]
    # By name it would do, but pipelines are found by looking through all stacks.
    yield _allow(["cloudformation:DescribeStacks"], [EVERYTHING])
    yield _allow(["s3:ListBucket"], [ledger.bucket_arn, source.bucket_arn])
    yield _allow(
        ["s3:GetObject"],
        [*(ledger.arn_for_objects(f"{prefix}*") for prefix in (RUNS, REPLAYS)), source.arn_for_objects("*")],
    )
    yield _allow(
        ["states:DescribeExecution"],
        [machine.executions_arn for machine in (*machines, pipeline.probe.stage, pipeline.probe.errors)],
    )
    yield _allow(["dynamodb:GetItem"], [pipeline.state.table.table_arn])
    if pipeline.publishing:
        published = pipeline.publishing.published
        yield _allow(["s3:ListBucket"], [published.bucket.bucket_arn])
        yield _allow(["s3:GetObject"], [published.bucket.arn_for_objects(published.read_keys)])
    register = pipeline.register.table.table_arn
    yield _allow(["dynamodb:BatchGetItem", "dynamodb:Query"], [register])
    yield _allow(["dynamodb:Query"], [f"{register}/index/{OWED_INDEX}"])
    # What a replay would cost depends on the workers' memory.
    yield _allow(
        ["lambda:GetFunctionConfiguration"],
        [stage.worker.function_arn for stage in pipeline.stages.values()],
    )


def _examines(stack: Stack, pipeline: PipelineParts) -> Iterator[iam.PolicyStatement]:
    """What `doctor` looks at besides."""
    machines = [pipeline.machine, *(stage.machine for stage in pipeline.stages.values())]
    # Asked by name, CloudFormation knows no id.
    itself = stack.format_arn(service="cloudformation", resource="stack", resource_name=f"{Aws.STACK_NAME}/*")
    yield _allow(["cloudformation:ListStackResources"], [itself])
    yield _allow(["states:ListExecutions"], [pipeline.machine.state_machine.state_machine_arn])
    yield _allow(
        ["states:DescribeStateMachine"], [machine.state_machine.state_machine_arn for machine in machines]
    )
    yield _allow(
        ["dynamodb:DescribeTable"], [pipeline.state.table.table_arn, pipeline.register.table.table_arn]
    )
    yield _allow(
        ["lambda:GetFunctionConcurrency"], [stage.worker.function_arn for stage in pipeline.stages.values()]
    )
    rules = [each for each in pipeline.everything if isinstance(each, events.Rule)]
    queues = [each for each in pipeline.everything if isinstance(each, sqs.Queue)]
    yield _allow(["events:DescribeRule"], [rule.rule_arn for rule in rules])
    yield _allow(["sqs:GetQueueAttributes"], [queue.queue_arn for queue in queues])
    yield _allow(["sns:ListSubscriptionsByTopic"], _topics(pipeline))
    parameter = stack.format_arn(service="ssm", resource="parameter", resource_name="cdk-bootstrap/*/version")
    yield _allow(["ssm:GetParameter"], [parameter])
    people = [
        stack.format_arn(service="iam", region="", resource=kind, resource_name="*")
        for kind in ("role", "user")
    ]
    yield _allow(["iam:SimulatePrincipalPolicy"], people)
    yield _allow(["iam:GetRole"], people[:1])
    # These are the account's, and have no resources to name.
    yield _allow(
        [
            "cloudwatch:DescribeAlarms",
            "lambda:GetAccountSettings",
            "logs:DescribeResourcePolicies",
            "servicequotas:ListServiceQuotas",
        ],
        [EVERYTHING],
    )


def _changes(pipeline: PipelineParts) -> Iterator[iam.PolicyStatement]:
    """What `run`, `replay` and its corrections, `publish`, `alert test` and `doctor --probe` change, and what they look up for it."""
    machines = (pipeline.machine, pipeline.probe.stage, pipeline.probe.errors)
    yield _allow(["states:StartExecution"], [each.state_machine.state_machine_arn for each in machines])
    yield _allow(
        ["s3:PutObject"],
        [
            # What a run or a replay is started with. A run's evidence is its functions' alone to write.
            *(pipeline.ledger.bucket.arn_for_objects(key) for key in STARTED_WITH),
            pipeline.source.bucket.arn_for_objects(f"{pipeline.source.prefix}*"),
        ],
    )
    yield _allow(["dynamodb:PutItem"], [pipeline.register.table.table_arn, pipeline.state.table.table_arn])
    if pipeline.publishing:
        published = pipeline.publishing.published
        # What a version consists of is the functions' alone to write; a person moves the pointer, and prunes.
        yield _allow(
            ["s3:PutObject"], [published.bucket.arn_for_objects(key) for key in published.person_keys]
        )
        yield _allow(
            ["s3:DeleteObject"], [published.bucket.arn_for_objects(key) for key in published.deleted_keys]
        )
    # The place in a replay's lane is given back where the replay was not started.
    yield _allow(["dynamodb:DeleteItem"], [pipeline.state.table.table_arn])
    yield _allow(["sns:Publish"], _topics(pipeline))
    # What is published is encrypted with the alerts' own key; nothing else that people touch has a key.
    yield _allow(["kms:Decrypt", "kms:GenerateDataKey"], [pipeline.alerts.key.key_arn])
    if slack := pipeline.alerts.slack:
        yield _allow(["lambda:GetFunctionConfiguration"], [slack.function_arn])
        yield _allow(["logs:FilterLogEvents"], [slack.log_group.log_group_arn])
    if secret := pipeline.alerts.slack_secret:
        # Whether it holds a webhook's address. A viewer, who could post with it, is not told.
        yield _allow(["secretsmanager:GetSecretValue"], [f"{secret.secret_arn}-??????"])
    alarms = [each for each in pipeline.everything if isinstance(each, cloudwatch.Alarm)]
    yield _allow(["cloudwatch:SetAlarmState"], [alarm.alarm_arn for alarm in alarms])
    yield _allow(["cloudwatch:DescribeAlarmHistory"], [EVERYTHING])


def _topics(pipeline: PipelineParts) -> list[str]:
    return [pipeline.alerts.topic.topic_arn, pipeline.alerts.watch_topic.topic_arn]


def _allow(actions: list[str], resources: list[str]) -> iam.PolicyStatement:
    return iam.PolicyStatement(actions=actions, resources=resources)


def _packed(stack: Stack, statements: Iterable[iam.PolicyStatement]) -> list[list[iam.PolicyStatement]]:
    """Statements in policies of at most IAM's limit, each in the first that has room for it."""
    packed: list[list[iam.PolicyStatement]] = []
    lengths: list[int] = []
    for statement in statements:
        for start in range(0, len(statement.resources), MAX_RESOURCES):
            part = _allow(statement.actions, statement.resources[start : start + MAX_RESOURCES])
            chars = _chars(stack, part)
            fits = (number for number, length in enumerate(lengths) if length + chars <= MAX_POLICY_CHARS)
            number = next(fits, len(packed))
            if number == len(packed):
                packed.append([])
                lengths.append(STATEMENT_CHARS)
            packed[number].append(part)
            lengths[number] += chars
    return packed


def _chars(stack: Stack, statement: iam.PolicyStatement) -> int:
    """A statement's length once references are replaced, at most."""
    actions = sum(len(action) + 3 for action in statement.actions)
    resources = sum(_length(stack.resolve(resource)) + 3 for resource in statement.resources)
    return STATEMENT_CHARS + actions + resources


def _length(value: object) -> int:
    match value:
        case str():
            return len(value)
        case {"Fn::Join": [str(), list(parts)]}:
            return sum(map(_length, parts))
        case {"Ref": str(name)} if name.startswith("AWS::"):
            return PSEUDO_CHARS
    return REFERENCE_CHARS


def _accept(policy: iam.ManagedPolicy, statements: Iterable[iam.PolicyStatement]) -> None:
    """The wildcards of a policy, with the reason."""
    stack = Stack.of(policy)
    for resource in dict.fromkeys(each for statement in statements for each in statement.resources):
        if resource == EVERYTHING:
            accept(
                policy,
                "AwsSolutions-IAM5[Resource::*]",
                reason="finding a pipeline among all stacks, and the account's own limits, take actions without resources",
            )
        elif WILDCARD.search(json.dumps(cast("object", stack.resolve(resource)))):
            accept_wildcard(
                policy,
                resource,
                reason="objects and executions are named when they are made, people when they are hired; the pattern "
                "is the narrowest there is",
            )
