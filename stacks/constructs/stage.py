"""One stage of a pipeline: a worker, and the machine that sees it through."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aws_cdk import Stack
from constructs import Construct

from stacks.constructs.code_version import code_version
from stacks.constructs.lambda_code import SOURCES
from stacks.constructs.machine import Machine
from stacks.constructs.python_function import PythonFunction
from statemachines.stage import StageMachine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_cdk import aws_lambda as lambda_
    from aws_cdk import aws_logs as logs

    from stacks.constructs.deployment import Deployment
    from stacks.constructs.ledger_bucket import LedgerBucket
    from stacks.constructs.stage_functions import StageFunctions
    from stacks.settings import EnvironmentSettings
    from winnow.core.contract import OnConflict

INVOCATION_SLACK_SECONDS = 30
"""A Task waits this much longer than its function may run: the function's own end says more than a Task's timeout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """What a stage is to be; made by `Stage.of`."""

    name: str
    worker: str
    requirements: str | None
    environment: Mapping[str, str]
    code: lambda_.Code | None
    parquet_input: bool
    overrides: Mapping[str, Any]
    """Fields of `EnvironmentSettings` that this stage has its own values for."""

    def __post_init__(self) -> None:
        module, _, function = self.worker.rpartition(".")
        if not module or not function:
            raise ValueError(
                f"worker must be a dotted path to a function, as catalogue.adapt.adapt, got: {self.worker!r}"
            )
        file = SOURCES.joinpath(*module.split("."))
        if self.code is None and not (file.with_suffix(".py").is_file() or (file / "__init__.py").is_file()):
            raise ValueError(f"worker must be a function of a module under {SOURCES}, got: {self.worker!r}")

    def settings(self, settings: EnvironmentSettings) -> EnvironmentSettings:
        """The environment's settings with the stage's own values, checked like the others."""
        return replace(settings, **self.overrides)


class Stage(Construct):
    """A stage machine and its worker. Can be started by itself: it does not know its place in a pipeline.

    The caller still has to grant the worker what its own work needs:
    `identifiers.grant_read_write_data(pipeline.stages["mint"].worker)`.
    """

    @staticmethod
    def of(
        name: str,
        *,
        worker: str,
        requirements: str | None = None,
        environment: Mapping[str, str] | None = None,
        memory_mb: int | None = None,
        timeout_seconds: int | None = None,
        reserved_concurrency: int | None = None,
        max_tries: int | None = None,
        spend_tries_first: bool | None = None,
        parquet_input: bool = False,
        code: lambda_.Code | None = None,
    ) -> StageSpec:
        """Describe a stage for a `Pipeline`.

        Args:
            name: lower-case words joined by -, as in the ledger, in alerts and on the command line.
            worker: dotted path of the function under `lambdas/` that `@worker` decorates.
            requirements: file of the packages that it needs, relative to `lambdas/`.
            environment: variables that it reads.
            memory_mb: instead of the environment's `worker_memory_mb`.
            timeout_seconds: instead of `worker_timeout_seconds`.
            reserved_concurrency: instead of `worker_reserved_concurrency`.
            max_tries: instead of the environment's.
            spend_tries_first: instead of the environment's.
            parquet_input: it may be started with a list in Parquet that no stage of ours wrote.
            code: instead of everything under `lambdas/`.
        """
        overrides = {
            "worker_memory_mb": memory_mb,
            "worker_timeout_seconds": timeout_seconds,
            "worker_reserved_concurrency": reserved_concurrency,
            "max_tries": max_tries,
            "spend_tries_first": spend_tries_first,
        }
        return StageSpec(
            name=name,
            worker=worker,
            requirements=requirements,
            environment=environment or {},
            code=code,
            parquet_input=parquet_input,
            overrides={name: value for name, value in overrides.items() if value is not None},
        )

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        spec: StageSpec,
        deployment: Deployment,
        ledger: LedgerBucket,
        functions: StageFunctions,
        log_group: logs.ILogGroup,
        on_conflict: OnConflict,
    ) -> None:
        super().__init__(scope, construct_id)
        settings = spec.settings(deployment.settings)
        self.name = spec.name
        self.timeout_seconds = settings.stage_timeout_seconds
        self.code_version = code_version(
            spec.worker,
            requirements=spec.requirements,
            settings={
                "environment": Stack.of(self).resolve(dict(spec.environment)),
                "memory_mb": settings.worker_memory_mb,
                "timeout_seconds": settings.worker_timeout_seconds,
            },
            code=spec.code,
        )
        """What its failures are recorded under."""
        self.worker: lambda_.Function = PythonFunction(
            self,
            "Worker",
            deployment=replace(deployment, settings=settings),
            handler=spec.worker,
            code=spec.code or deployment.code.worker(spec.requirements),
            timeout_seconds=settings.worker_timeout_seconds,
            memory_mb=settings.worker_memory_mb,
            reserved_concurrency=settings.worker_reserved_concurrency,
            environment=spec.environment,
            variables={
                "ledger_bucket": ledger.bucket.bucket_name,
                "stage": spec.name,
                "code_version": self.code_version,
            },
        ).function
        ledger.grant_read(self.worker)
        ledger.grant_write_attempts(self.worker, stage=spec.name)
        self.machine = Machine(
            self,
            "Machine",
            definition=StageMachine(
                stage=spec.name,
                policy=replace(settings.retry_policy, on_conflict=on_conflict),
                plan_function_arn=functions.plan.function.function_arn,
                worker_function_arn=self.worker.function_arn,
                settle_function_arn=functions.settle.function.function_arn,
                register_function_arn=functions.register.function.function_arn,
                alert_function_arn=functions.alert.function.function_arn,
                plan_timeout_seconds=functions.plan.timeout_seconds + INVOCATION_SLACK_SECONDS,
                worker_timeout_seconds=settings.worker_timeout_seconds + INVOCATION_SLACK_SECONDS,
                settle_timeout_seconds=functions.settle.timeout_seconds + INVOCATION_SLACK_SECONDS,
                register_timeout_seconds=functions.register.timeout_seconds + INVOCATION_SLACK_SECONDS,
                alert_timeout_seconds=functions.alert.timeout_seconds + INVOCATION_SLACK_SECONDS,
                worker_retry_wait_seconds=settings.worker_retry_wait_seconds,
                recursion_timeout_seconds=settings.recursion_timeout_seconds,
                stage_timeout_seconds=settings.stage_timeout_seconds,
            ).to_json(),
            invokes=[
                functions.plan.function,
                self.worker,
                functions.settle.function,
                functions.register.function,
                functions.alert.function,
            ],
            waits_for_executions=True,
            log_group=log_group,
            settings=settings,
        )
        self.machine.grant_start_itself()
        # An attempt whose parent gave up waiting may go on; the parent's Settle stops it.
        self.machine.grant_stop_executions(functions.settle.function)
