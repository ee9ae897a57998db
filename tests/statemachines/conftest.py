from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws
from moto.awslambda_simple.models import LambdaSimpleBackend
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl

from statemachines.pipeline import FunctionStep, PipelineMachine, PublishingSteps, StageStep
from statemachines.probe import ProbeMachine
from statemachines.stage import StageMachine
from tests.statemachines.interpreter import Interpreter, function_arn
from winnow.core.contract import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STAGES = ("adapt", "check-quality", "mint")
PUBLISHED_STAGES = ("adapt", "mint")
"""Of the pipeline that publishes: there the name of its gate is taken."""


@pytest.fixture
def stage_definition() -> dict[str, Any]:
    return StageMachine(
        stage="adapt",
        policy=Policy(max_tries=3, backoff_seconds=7),
        plan_function_arn=function_arn("plan"),
        worker_function_arn=function_arn("worker"),
        settle_function_arn=function_arn("settle"),
        register_function_arn=function_arn("register"),
        alert_function_arn=function_arn("alert"),
        plan_timeout_seconds=930,
        worker_timeout_seconds=330,
        settle_timeout_seconds=930,
        register_timeout_seconds=330,
        alert_timeout_seconds=90,
        worker_retry_wait_seconds=30,
        recursion_timeout_seconds=10_000,
        stage_timeout_seconds=20_000,
    ).definition()


RULES = [{"kind": "unique", "columns": ["isbn"], "reason": "consumers look works up by it"}]


def pipeline_machine(stages: Sequence[str], publishing: PublishingSteps | None = None) -> PipelineMachine:
    return PipelineMachine(
        name="catalogue",
        stages=[
            StageStep(
                name=name,
                machine_arn=f"arn:aws:states:eu-west-1:123456789012:stateMachine:{name}",
                timeout_seconds=60,
            )
            for name in stages
        ],
        plan_run_function_arn=function_arn("plan_run"),
        plan_run_timeout_seconds=60,
        timeout_seconds=600,
        publishing=publishing,
    )


def publishing_steps(*, gated: bool = True) -> PublishingSteps:
    def step(name: str) -> FunctionStep:
        return FunctionStep(arn=function_arn(name), timeout_seconds=60)

    return PublishingSteps(
        build_version=step("build_version"),
        check_quality=step("check_quality") if gated else None,
        publish=step("publish"),
        rules=RULES if gated else (),
    )


@pytest.fixture
def pipeline_definition() -> dict[str, Any]:
    return pipeline_machine(STAGES).definition()


@pytest.fixture
def publishing_definition() -> dict[str, Any]:
    """Of a pipeline that publishes what a gate has let pass."""
    return pipeline_machine(PUBLISHED_STAGES, publishing_steps()).definition()


@pytest.fixture
def probe_definition() -> dict[str, Any]:
    return ProbeMachine(probe_function_arn=function_arn("probe"), function_timeout_seconds=90).definition()


@pytest.fixture(scope="module")
def moto_interpreter() -> Iterator[Interpreter]:
    """moto's Step Functions, with functions of ours and without waiting before retries. Slow to start."""
    waits: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
            patch.delenv(name, raising=False)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "none")
        patch.setattr(retrier_decl, "time", SimpleNamespace(sleep=waits.append))
        with mock_aws(
            config={"stepfunctions": {"execute_state_machine": True}, "lambda": {"use_docker": False}}
        ):
            made = Interpreter(client=boto3.client("stepfunctions", region_name="eu-west-1"), waits=waits)

            def invoke(
                _backend: object,
                function_name: str,
                _qualifier: object,
                body: Any,
                _headers: object,
                response_headers: Any,
            ) -> bytes:
                return made.invoke(function_name, body, response_headers)

            patch.setattr(LambdaSimpleBackend, "invoke", invoke)
            yield made


@pytest.fixture
def interpreter(moto_interpreter: Interpreter) -> Interpreter:
    """An interpreter that knows no functions yet."""
    moto_interpreter.functions.clear()
    return moto_interpreter
