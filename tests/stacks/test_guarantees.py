"""What the example's stack guarantees, whatever it is made of."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stacks.synthesized import OWN_HANDLERS, Synthesized, allowed
from winnow.register.item import SUMMARY_ATTRIBUTES

WORKERS = {
    "adapt": "catalogue.adapt.adapt",
    "transform": "catalogue.transform.transform",
    "mint": "catalogue.mint.mint",
}
DATA = ("AWS::S3::Bucket", "AWS::DynamoDB::GlobalTable", "AWS::Logs::LogGroup", "AWS::KMS::Key")
REFUSED_BY_THE_EMULATOR = (
    "AWS::Logs::QueryDefinition",
    "AWS::CloudWatch::CompositeAlarm",
    "AWS::CloudWatch::AnomalyDetector",
    "AWS::Chatbot::",
    "Custom::",
)


@pytest.fixture
def source(prod: Synthesized) -> str:
    return f"<{prod.the('AWS::S3::Bucket', 'Source')}.Arn>"


# The ledger


@pytest.mark.parametrize("handler", [*WORKERS.values(), *OWN_HANDLERS.values()])
def test_nobody_can_delete_from_the_ledger(prod: Synthesized, handler: str) -> None:
    permissions = prod.permissions(handler)

    for action in (
        "s3:DeleteObject",
        "s3:DeleteObjectVersion",
        "s3:PutLifecycleConfiguration",
        "s3:PutBucketPolicy",
    ):
        assert allowed(permissions, action) == set()


@pytest.mark.parametrize(("stage", "handler"), WORKERS.items())
def test_worker_vouches_for_its_own_stage_only(
    prod: Synthesized, ledger: str, stage: str, handler: str
) -> None:
    assert allowed(prod.permissions(handler), "s3:PutObject") == {f"{ledger}/runs/*/{stage}/attempts/*"}


@pytest.mark.parametrize(
    "handler",
    [
        *WORKERS.values(),
        OWN_HANDLERS["plan"],
        OWN_HANDLERS["settle"],
        OWN_HANDLERS["register"],
        OWN_HANDLERS["alert"],
        OWN_HANDLERS["close_run"],
        OWN_HANDLERS["plan_run"],
    ],
)
def test_who_reads_the_ledger_is_told_that_an_object_is_missing(
    prod: Synthesized, ledger: str, handler: str
) -> None:
    permissions = prod.permissions(handler)

    assert {f"{ledger}/runs/*", f"{ledger}/replays/*"} <= allowed(permissions, "s3:GetObject")
    assert ledger in allowed(permissions, "s3:ListBucket"), "without it S3 answers 403 for a missing object"


def test_ledger_forgets_runs_after_the_configured_days(prod: Synthesized, ledger: str) -> None:
    bucket = prod.properties("AWS::S3::Bucket")[ledger.strip("<>").removesuffix(".Arn")]
    rules = bucket["LifecycleConfiguration"]["Rules"]
    forgets = [rule for rule in rules if "ExpirationInDays" in rule]

    assert [rule["Prefix"] for rule in forgets] == ["runs/", "replays/"]
    for rule in forgets:
        assert (rule["ExpirationInDays"], rule["Status"]) == (365, "Enabled")
        assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}


def test_ledger_moves_only_what_is_large_to_cold_storage_that_is_read_at_once(
    prod: Synthesized, local: Synthesized, ledger: str
) -> None:
    name = ledger.strip("<>").removesuffix(".Arn")
    rules = prod.properties("AWS::S3::Bucket")[name]["LifecycleConfiguration"]["Rules"]

    (cold,) = (rule for rule in rules if "Transitions" in rule)
    assert cold["Prefix"] == "runs/"
    assert cold["ObjectSizeGreaterThan"] == 131072
    assert cold["Transitions"] == [{"StorageClass": "GLACIER_IR", "TransitionInDays": 30}]
    assert "Transitions" not in str(local.properties("AWS::S3::Bucket")), "null is never"


# The source


def test_only_the_first_worker_and_plan_read_the_source(prod: Synthesized, source: str) -> None:
    readers = {
        handler
        for handler in prod.handlers()
        if any(resource.startswith(source) for resource in allowed(prod.permissions(handler), "s3:GetObject"))
    }

    assert readers == {WORKERS["adapt"], OWN_HANDLERS["plan"]}


def test_source_is_read_under_its_prefix_only(prod: Synthesized, source: str) -> None:
    found = allowed(prod.permissions(WORKERS["adapt"]), "s3:GetObject")

    assert {each for each in found if each.startswith(source)} == {f"{source}/tei/*"}


def test_nobody_writes_to_the_source(prod: Synthesized, source: str) -> None:
    for handler in prod.handlers():
        written = allowed(prod.permissions(handler), "s3:PutObject")
        assert not [each for each in written if each.startswith(source)], handler


def test_source_tells_of_arrivals_without_a_custom_resource(prod: Synthesized) -> None:
    bucket = prod.properties("AWS::S3::Bucket")[prod.the("AWS::S3::Bucket", "Source")]

    assert bucket["NotificationConfiguration"] == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}


# Buckets, queues, topics, tables


def test_buckets_are_private_encrypted_and_refuse_plain_http(prod: Synthesized) -> None:
    denied = {
        policy["Bucket"]["Ref"]
        for policy in prod.properties("AWS::S3::BucketPolicy").values()
        if _denies_plain_http(policy["PolicyDocument"])
    }

    for name, bucket in prod.properties("AWS::S3::Bucket").items():
        assert bucket["BucketEncryption"], name
        assert all(bucket["PublicAccessBlockConfiguration"].values()), name
        assert name in denied


def test_queues_are_encrypted_and_refuse_plain_http(prod: Synthesized) -> None:
    denied = {
        queue["Ref"]
        for policy in prod.properties("AWS::SQS::QueuePolicy").values()
        for queue in policy["Queues"]
        if _denies_plain_http(policy["PolicyDocument"])
    }

    for name, queue in prod.properties("AWS::SQS::Queue").items():
        assert queue["SqsManagedSseEnabled"] is True, name
        assert name in denied


def test_topics_are_encrypted_and_refuse_plain_http(prod: Synthesized) -> None:
    topics = prod.properties("AWS::SNS::Topic")
    policies = prod.properties("AWS::SNS::TopicPolicy").values()

    assert all(topic["KmsMasterKeyId"] for topic in topics.values())
    assert sorted(topic["Ref"] for policy in policies for topic in policy["Topics"]) == sorted(topics)
    assert all(_denies_plain_http(policy["PolicyDocument"]) for policy in policies)


def test_alarms_get_through_to_the_encrypted_topics(prod: Synthesized) -> None:
    topics = [each["PolicyDocument"] for each in prod.properties("AWS::SNS::TopicPolicy").values()]
    (key,) = prod.properties("AWS::KMS::Key").values()

    for document, action in (
        *((topic, "sns:Publish") for topic in topics),
        (key["KeyPolicy"], "kms:Decrypt"),
    ):
        (statement,) = (
            each
            for each in document["Statement"]
            if each["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
        )
        assert action in statement["Action"]
        assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_tables_can_be_restored_to_any_second(prod: Synthesized) -> None:
    for name, table in prod.properties("AWS::DynamoDB::GlobalTable").items():
        for replica in table["Replicas"]:
            assert replica["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}, name


def test_locks_and_marks_expire(prod: Synthesized) -> None:
    table = prod.properties("AWS::DynamoDB::GlobalTable")[prod.the("AWS::DynamoDB::GlobalTable", "State")]

    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}


@pytest.fixture
def register(prod: Synthesized) -> str:
    return f"<{prod.the('AWS::DynamoDB::GlobalTable', 'Register')}.Arn>"


@pytest.mark.parametrize("handler", WORKERS.values())
def test_worker_cannot_touch_the_register(prod: Synthesized, register: str, handler: str) -> None:
    touched = {
        resource
        for action in ("GetItem", "BatchGetItem", "Query", "Scan", "PutItem", "UpdateItem", "DeleteItem")
        for resource in allowed(prod.permissions(handler), f"dynamodb:{action}")
    }

    assert not [each for each in touched if each.startswith(register) or each == "*"]


def test_only_register_and_the_run_closer_change_the_register(prod: Synthesized, register: str) -> None:
    writers = {
        handler
        for handler in prod.handlers()
        if register in allowed(prod.permissions(handler), "dynamodb:PutItem")
    }

    assert writers == {OWN_HANDLERS["register"], OWN_HANDLERS["close_run"]}
    for handler in writers:
        permissions = prod.permissions(handler)
        assert register in allowed(permissions, "dynamodb:BatchGetItem")
        assert {register, f"{register}/index/owed"} <= allowed(permissions, "dynamodb:Query")
        assert "Register" in prod.variables(handler)["WINNOW_REGISTER_TABLE"]["Ref"]


def test_nobody_can_delete_from_the_register(prod: Synthesized, register: str) -> None:
    for handler in prod.handlers():
        for action in ("dynamodb:DeleteItem", "dynamodb:BatchWriteItem", "dynamodb:DeleteTable"):
            assert register not in allowed(prod.permissions(handler), action), handler


def test_the_register_finds_what_is_owed_by_an_index_of_it_alone(prod: Synthesized, register: str) -> None:
    table = prod.properties("AWS::DynamoDB::GlobalTable")[register.strip("<>").removesuffix(".Arn")]
    (index,) = table["GlobalSecondaryIndexes"]

    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert index["KeySchema"] == [
        {"AttributeName": "owed", "KeyType": "HASH"},
        {"AttributeName": "sk", "KeyType": "RANGE"},
    ]
    assert sorted(index["Projection"]["NonKeyAttributes"]) == sorted(SUMMARY_ATTRIBUTES)


def test_mint_can_give_identifiers_and_never_take_one_back(prod: Synthesized) -> None:
    permissions = prod.permissions(WORKERS["mint"])
    table = f"<{prod.the('AWS::DynamoDB::GlobalTable', 'Identifiers')}.Arn>"

    for action in ("dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"):
        assert allowed(permissions, action) == {table}
    assert allowed(permissions, "dynamodb:DeleteItem") == set()
    assert prod.variables(WORKERS["mint"])["IDENTIFIERS_TABLE"] == {
        "Ref": table.strip("<>").removesuffix(".Arn")
    }


# What outlives what


@pytest.mark.parametrize("kind", DATA)
def test_production_data_outlives_its_stack(prod: Synthesized, kind: str) -> None:
    for name, resource in prod.resources(kind).items():
        assert resource["DeletionPolicy"] in {"Retain", "RetainExceptOnCreate"}, name


@pytest.mark.parametrize("kind", DATA)
def test_local_data_goes_with_its_stack(local: Synthesized, kind: str) -> None:
    for name, resource in local.resources(kind).items():
        assert resource["DeletionPolicy"] == "Delete", name


def test_every_log_expires(prod: Synthesized) -> None:
    for name, group in prod.properties("AWS::Logs::LogGroup").items():
        assert group["RetentionInDays"] == 90, name


def test_every_function_and_machine_logs_to_a_group_of_ours(prod: Synthesized) -> None:
    groups = prod.resources("AWS::Logs::LogGroup")

    for name, function in prod.properties("AWS::Lambda::Function").items():
        assert function["LoggingConfig"]["LogGroup"]["Ref"] in groups, name
    for name, machine in prod.properties("AWS::StepFunctions::StateMachine").items():
        (destination,) = machine["LoggingConfiguration"]["Destinations"]
        assert destination["CloudWatchLogsLogGroup"]["LogGroupArn"]["Fn::GetAtt"][0] in groups, name
        assert machine["LoggingConfiguration"]["Level"] == "ALL"
        assert machine["LoggingConfiguration"]["IncludeExecutionData"] is False, "records may be personal"


def test_machines_log_under_the_prefix_that_spares_the_resource_policy_of_the_account(
    prod: Synthesized,
) -> None:
    groups = prod.properties("AWS::Logs::LogGroup")
    for name, machine in prod.properties("AWS::StepFunctions::StateMachine").items():
        (destination,) = machine["LoggingConfiguration"]["Destinations"]
        group = groups[destination["CloudWatchLogsLogGroup"]["LogGroupArn"]["Fn::GetAtt"][0]]
        (separator, parts) = group["LogGroupName"]["Fn::Join"]
        assert separator == ""
        assert parts[0] == "/aws/vendedlogs/states/", name


def test_a_log_group_that_was_retained_does_not_stand_in_the_way_of_the_same_stack_made_again(
    prod: Synthesized,
) -> None:
    named = [
        group["LogGroupName"]
        for group in prod.properties("AWS::Logs::LogGroup").values()
        if "LogGroupName" in group
    ]

    assert len(named) == 1
    stack_uuid = {"Fn::Select": [2, {"Fn::Split": ["/", {"Ref": "AWS::StackId"}]}]}
    assert stack_uuid in named[0]["Fn::Join"][1]
    longest_stack_name, uuid = 128, 36
    fixed = sum(len(part) for part in named[0]["Fn::Join"][1] if isinstance(part, str))
    of_arn = len("arn:aws:logs:ap-northeast-1:123456789012:log-group::*")
    assert of_arn + fixed + longest_stack_name + uuid <= 256, (
        "Step Functions takes no longer ARN of a log group"
    )


def test_nothing_has_a_name_of_ours(prod: Synthesized) -> None:
    names = (
        "BucketName",
        "FunctionName",
        "QueueName",
        "RoleName",
        "StateMachineName",
        "TableName",
        "TopicName",
    )

    for name, resource in prod.template["Resources"].items():
        for each in names:
            if resource["Type"] not in {"AWS::Lambda::Permission", "AWS::Lambda::EventSourceMapping"}:
                assert each not in resource.get("Properties", {}), name


# Functions


@pytest.mark.parametrize("handler", [*WORKERS.values(), *OWN_HANDLERS.values()])
def test_functions_are_current(prod: Synthesized, handler: str) -> None:
    function = prod.function(handler)

    assert (function["Runtime"], function["Architectures"]) == ("python3.14", ["arm64"])
    assert function["TracingConfig"] == {"Mode": "Active"}


@pytest.mark.parametrize("handler", [*WORKERS.values(), *OWN_HANDLERS.values()])
def test_functions_have_roles_of_their_own_without_managed_policies(prod: Synthesized, handler: str) -> None:
    role = prod.function(handler)["Role"]["Fn::GetAtt"][0]
    users = [
        name
        for name, each in prod.properties("AWS::Lambda::Function").items()
        if each["Role"]["Fn::GetAtt"][0] == role
    ]

    assert users == [prod.handlers()[handler]]
    assert "ManagedPolicyArns" not in prod.properties("AWS::IAM::Role")[role]


@pytest.mark.parametrize("handler", [*WORKERS.values(), *OWN_HANDLERS.values()])
def test_functions_know_where_they_are(prod: Synthesized, handler: str) -> None:
    variables = prod.variables(handler)

    assert variables["WINNOW_PIPELINE"] == variables["POWERTOOLS_SERVICE_NAME"] == "catalogue"
    assert variables["WINNOW_ENVIRONMENT"] == "prod"
    assert variables["POWERTOOLS_METRICS_NAMESPACE"] == "Winnow"


@pytest.mark.parametrize(("stage", "handler"), WORKERS.items())
def test_workers_know_their_stage_and_version(prod: Synthesized, stage: str, handler: str) -> None:
    variables = prod.variables(handler)

    assert variables["WINNOW_STAGE"] == stage
    assert len(variables["WINNOW_CODE_VERSION"]) == 16


@pytest.mark.parametrize("name", ["plan_run", "start_run", "close_run"])
def test_functions_around_a_run_know_the_pipeline(prod: Synthesized, name: str) -> None:
    variables = prod.variables(OWN_HANDLERS[name])

    assert variables["WINNOW_STAGES"] == "adapt,transform,mint"
    assert variables["WINNOW_SOURCE_PREFIX"] == "tei/"
    assert "Identifiers" not in variables["WINNOW_STATE_TABLE"]["Ref"]
    assert "Source" in variables["WINNOW_SOURCE_BUCKET"]["Ref"]


def test_slack_reads_one_secret(prod: Synthesized) -> None:
    (secret,) = allowed(prod.permissions(OWN_HANDLERS["slack"]), "secretsmanager:GetSecretValue")

    assert secret.endswith(":secret:winnow/slack-webhook-??????")


@pytest.mark.parametrize("name", ["slack", "start_run", "close_run"])
def test_an_event_that_a_function_cannot_handle_is_kept(prod: Synthesized, name: str) -> None:
    queue = prod.function(OWN_HANDLERS[name])["DeadLetterConfig"]["TargetArn"]["Fn::GetAtt"][0]
    watched = {
        dimension["Value"]["Fn::GetAtt"][0]
        for alarm in prod.properties("AWS::CloudWatch::Alarm").values()
        for dimension in alarm["Dimensions"]
        if dimension["Name"] == "QueueName"
    }

    assert prod.properties("AWS::SQS::Queue")[queue]["MessageRetentionPeriod"] == 14 * 24 * 3600
    assert queue in watched


# Machines


@pytest.mark.parametrize(("stage", "handler"), WORKERS.items())
def test_a_stage_machine_invokes_its_own_functions_only(prod: Synthesized, stage: str, handler: str) -> None:
    functions = [handler, *(OWN_HANDLERS[name] for name in ("plan", "settle", "register", "alert"))]

    invoked = allowed(prod.machine_permissions(f"{stage.title()}Stage"), "lambda:InvokeFunction")

    assert invoked == {f"<{prod.handlers()[each]}.Arn>" for each in functions}


@pytest.mark.parametrize("stage", WORKERS)
def test_a_stage_machine_may_start_itself_and_nothing_else(prod: Synthesized, stage: str) -> None:
    machine = prod.the("AWS::StepFunctions::StateMachine", f"{stage.title()}Stage")

    assert allowed(prod.machine_permissions(machine), "states:StartExecution") == {f"<{machine}>"}
    for action in ("states:DescribeExecution", "states:StopExecution"):
        (executions,) = allowed(prod.machine_permissions(machine), action)
        assert executions.endswith(f":execution:<{machine}.Name>:*")


def test_settle_may_stop_attempts_of_stages_and_nothing_else(prod: Synthesized) -> None:
    names = [*(f"{stage.title()}Stage" for stage in WORKERS), "ProbeStage"]
    stages = {prod.the("AWS::StepFunctions::StateMachine", name) for name in names}
    permissions = prod.permissions(OWN_HANDLERS["settle"])

    stoppable = allowed(permissions, "states:StopExecution")

    assert len(stoppable) == len(stages)
    assert {each.partition(":execution:")[2] for each in stoppable} == {
        f"<{stage}.Name>:*" for stage in stages
    }
    for action in ("states:StartExecution", "states:DescribeExecution"):
        assert allowed(permissions, action) == set()


def test_the_pipeline_machine_may_start_every_stage(prod: Synthesized) -> None:
    machine = prod.the("AWS::StepFunctions::StateMachine", "CatalogueMachine")
    stages = {prod.the("AWS::StepFunctions::StateMachine", f"{stage.title()}Stage") for stage in WORKERS}

    permissions = prod.machine_permissions(machine)

    assert allowed(permissions, "states:StartExecution") == {f"<{stage}>" for stage in stages}
    for stage in stages:
        assert any(
            each.endswith(f"<{stage}.Name>:*") for each in allowed(permissions, "states:StopExecution")
        )


def test_waiting_for_executions_is_allowed_before_the_machine_is_created(prod: Synthesized) -> None:
    """Step Functions checks for it then, so it must be in a policy that the machine depends on."""
    for name, machine in prod.resources("AWS::StepFunctions::StateMachine").items():
        (policy,) = {
            each.policy
            for each in prod.machine_permissions(name)
            if each.allows("events:PutRule")
            and each.allows("events:PutTargets")
            and each.allows("events:DescribeRule")
        }
        assert policy in machine["DependsOn"], name


def test_definitions_stay_readable_in_the_template(prod: Synthesized) -> None:
    definition = prod.definition("AdaptStage")

    assert definition["States"]["RunWorker"]["Resource"] == f"<{prod.handlers()[WORKERS['adapt']]}.Arn>"
    assert definition["States"]["Plan"]["Parameters"]["Payload"]["stage"] == "adapt"


def test_a_task_outlasts_its_function(prod: Synthesized) -> None:
    states = prod.definition("AdaptStage")["States"]

    for state, handler in {
        "RunWorker": WORKERS["adapt"],
        "Plan": OWN_HANDLERS["plan"],
        "Settle": OWN_HANDLERS["settle"],
        "RegisterFailures": OWN_HANDLERS["register"],
        "AlertExhausted": OWN_HANDLERS["alert"],
    }.items():
        assert states[state]["TimeoutSeconds"] > prod.function(handler)["Timeout"], state


def test_every_wait_is_outlasted_by_what_waits_for_it(prod: Synthesized) -> None:
    stage, pipeline = prod.definition("AdaptStage"), prod.definition("CatalogueMachine")
    nested = stage["States"]["RunOutstanding"]["TimeoutSeconds"]

    assert (
        nested
        < stage["TimeoutSeconds"]
        < pipeline["States"]["Adapt"]["TimeoutSeconds"]
        < pipeline["TimeoutSeconds"]
    )


# The command line, the emulator


def test_the_command_line_finds_everything(prod: Synthesized) -> None:
    outputs: dict[str, Any] = prod.template["Outputs"]

    assert outputs["PipelineName"]["Value"] == "catalogue"
    assert outputs["StageNames"]["Value"] == "adapt,transform,mint"
    assert outputs["Environment"]["Value"] == "prod"
    assert outputs["ConfirmChanges"]["Value"] == "true"
    for name in (
        "PipelineArn",
        "LedgerBucket",
        "SourceBucket",
        "StateTable",
        "RegisterTable",
        "AlertTopicArn",
        "WatchTopicArn",
    ):
        assert "Ref" in outputs[name]["Value"], name
    for stage, worker in WORKERS.items():
        version = prod.variables(worker)["WINNOW_CODE_VERSION"]
        assert outputs[f"{stage.title()}CodeVersion"]["Value"] == version
        assert outputs[f"{stage.title()}WorkerName"]["Value"] == {"Ref": prod.handlers()[worker]}
        assert f"{stage.title()}Stage" in outputs[f"{stage.title()}MachineArn"]["Value"]["Ref"]


def test_nothing_that_the_emulator_refuses_is_deployed_to_it(local: Synthesized) -> None:
    kinds = {each["Type"] for each in local.template["Resources"].values()}

    assert not [kind for kind in kinds if kind.startswith(REFUSED_BY_THE_EMULATOR)]


def test_the_emulator_and_production_run_the_same_machines(local: Synthesized, prod: Synthesized) -> None:
    def shape(template: Synthesized, machine: str) -> dict[str, list[str]]:
        definition = template.definition(machine)
        return {name: sorted(state) for name, state in definition["States"].items()}

    for machine in ("AdaptStage", "CatalogueMachine"):
        assert shape(local, machine) == shape(prod, machine)


def _denies_plain_http(document: dict[str, Any]) -> bool:
    return any(
        each["Effect"] == "Deny" and each.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
        for each in document["Statement"]
    )
