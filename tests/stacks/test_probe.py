"""What `winnow doctor --probe` finds deployed: harmless to the pipeline, and free while nobody runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from statemachines.pipeline import check_stage_names
from tests.stacks.synthesized import Synthesized, allowed
from winnow.core.sfn_errors import SfnError

if TYPE_CHECKING:
    pass

PROBE = "winnow.handlers.probe.handler"
MACHINES = {"ProbeMachineArn": "ProbeStage", "ProbeErrorsArn": "ProbeErrors"}


@pytest.fixture
def ledger(prod: Synthesized) -> str:
    return f"<{prod.the('AWS::S3::Bucket', 'Ledger')}.Arn>"


def test_the_function_reaches_its_own_stage_s_objects_and_nothing_else(
    prod: Synthesized, ledger: str
) -> None:
    permissions = prod.permissions(PROBE)

    own = {f"{ledger}/runs/*/probe/*"}
    assert allowed(permissions, "s3:GetObject") == allowed(permissions, "s3:PutObject") == own
    assert allowed(permissions, "s3:ListBucket") == {ledger}
    actions = {action for each in permissions for action in each.actions}
    assert {action for action in actions if not action.startswith(("logs:", "xray:"))} == {
        "s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListBucket",
    }  # fmt: skip


def test_the_function_is_small_and_has_a_short_life(prod: Synthesized) -> None:
    function = prod.function(PROBE)

    assert (function["MemorySize"], function["Timeout"]) == (256, 60)
    assert "ReservedConcurrentExecutions" not in function


def test_failures_on_purpose_are_neither_registered_nor_alerted(prod: Synthesized) -> None:
    machine = prod.definition("ProbeStage")
    function = f"<{prod.handlers()[PROBE]}.Arn>"

    assert machine["States"]["RegisterFailures"]["Parameters"]["FunctionName"] == function
    for name in ("AlertPermanent", "AlertExhausted", "AlertTotalFailure"):
        assert machine["States"][name]["Parameters"]["FunctionName"] == function


def test_the_stage_is_planned_and_settled_by_the_functions_of_every_stage(prod: Synthesized) -> None:
    machine = prod.definition("ProbeStage")

    for state, name in {"Plan": "plan", "Settle": "settle", "SettleWhatIsProven": "settle"}.items():
        function = prod.handlers()[f"winnow.handlers.{name}.handler"]
        assert machine["States"][state]["Parameters"]["FunctionName"] == f"<{function}.Arn>"
    assert machine["States"]["RunWorker"]["Resource"] == f"<{prod.handlers()[PROBE]}.Arn>"


def test_an_attempt_can_outlive_its_parents_patience(prod: Synthesized) -> None:
    machine = prod.definition("ProbeStage")

    assert machine["States"]["RunOutstanding"]["TimeoutSeconds"] < prod.function(PROBE)["Timeout"]


@pytest.mark.parametrize("containing", MACHINES.values())
def test_its_machines_start_nothing_but_themselves(prod: Synthesized, containing: str) -> None:
    machine = prod.the("AWS::StepFunctions::StateMachine", containing)

    assert allowed(prod.machine_permissions(containing), "states:StartExecution") == {f"<{machine}>"}


def test_no_run_of_the_pipeline_passes_through_it(prod: Synthesized) -> None:
    (pipeline,) = (
        machine
        for machine in prod.properties("AWS::StepFunctions::StateMachine")
        if machine.startswith("CatalogueMachine")
    )

    assert "Probe" not in str(prod.properties("AWS::StepFunctions::StateMachine")[pipeline])


def test_it_costs_nothing_while_it_is_idle(prod: Synthesized) -> None:
    kinds = {each["Type"] for name, each in prod.template["Resources"].items() if "Probe" in name}

    assert kinds == {
        "AWS::IAM::Role",
        "AWS::IAM::Policy",
        "AWS::Lambda::Function",
        "AWS::Logs::LogGroup",
        "AWS::StepFunctions::StateMachine",
    }


def test_the_command_line_is_told_where_it_is(prod: Synthesized) -> None:
    for output, containing in MACHINES.items():
        machine = prod.the("AWS::StepFunctions::StateMachine", containing)
        assert prod.template["Outputs"][output]["Value"] == {"Ref": machine}


def test_its_names_are_in_the_list(prod: Synthesized) -> None:
    assert prod.definition("ProbeErrors")["States"]["UnknownProbe"]["Error"] == SfnError.UNKNOWN_PROBE


def test_no_pipeline_may_have_a_stage_of_its_name() -> None:
    with pytest.raises(ValueError, match="must not be one of the pipeline's own"):
        check_stage_names(["clean", "probe"])


def test_what_a_probe_puts_into_the_source_is_gone_the_next_day(prod: Synthesized) -> None:
    source = prod.properties("AWS::S3::Bucket")[prod.the("AWS::S3::Bucket", "Source")]
    (rule,) = (each for each in source["LifecycleConfiguration"]["Rules"] if "Prefix" in each)

    assert rule["Prefix"] == "tei/.winnow-probe/"
    assert rule["ExpirationInDays"] == rule["NoncurrentVersionExpiration"]["NoncurrentDays"] == 1


def test_the_command_line_is_told_how_long_arrivals_are_gathered(
    prod: Synthesized, local: Synthesized
) -> None:
    assert prod.template["Outputs"]["ArrivalsWindowSeconds"]["Value"] == "60"
    assert "ArrivalsWindowSeconds" not in local.template["Outputs"]
