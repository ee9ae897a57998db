"""Python Lambdas as Winnow runs them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration, Size
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from stacks.constructs.lambda_code import ARCHITECTURE, RUNTIME
from stacks.constructs.log_group import LogGroup
from stacks.constructs.nag import accept
from winnow.settings import Settings as FunctionSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_cdk import aws_sqs as sqs

    from stacks.constructs.deployment import Deployment

METRICS_NAMESPACE = "Winnow"

OWN_MEMORY_MB = 512
"""Our own functions stream and need a quarter of it; the rest buys processor time to start, unzip and parse."""
LISTING_MEMORY_MB = 1769
"""One whole processor, the most that one Python process uses: parsing a page of a listing takes it 50 ms, and 512 MB buy a third of one.
Pages that wait for their turn take 256 MB at most."""
PARQUET_MEMORY_MB = 2048
"""A Parquet file is read whole, as its index stands at its end."""
STORAGE_MB = 512
"""What every function has of disk without being charged for it."""


class PythonFunction(Construct):
    """A function with a log group and a role of its own, which may do nothing but write to that log.

    Whatever else it may do is granted by the constructs that own it: `ledger.grant_read(plan.function)`.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        handler: str,
        code: lambda_.Code,
        timeout_seconds: int,
        memory_mb: int,
        storage_mb: int = STORAGE_MB,
        variables: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        reserved_concurrency: int | None = None,
        dead_letter_queue: sqs.IQueue | None = None,
    ) -> None:
        """Define the function, its role and its log group.

        Args:
            scope: the construct that it belongs to.
            construct_id: its id in there.
            deployment: the pipeline and environment that it serves.
            handler: dotted path, as in Python: `catalogue.adapt.adapt`.
            code: what is shipped.
            timeout_seconds: after which Lambda kills it.
            memory_mb: its memory; processor time grows with it.
            storage_mb: its disk, under `/tmp`.
            variables: what `winnow.settings` reads, by field name: `{"ledger_bucket": …}`.
            environment: further variables, for a user's worker.
            reserved_concurrency: set aside for it, which is its limit too.
            dead_letter_queue: for events that it was called with asynchronously and failed on three times.
        """
        super().__init__(scope, construct_id)
        settings = deployment.settings
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        log_group = LogGroup(self, "Logs", settings=settings)
        log_group.grant_write(role)
        self.timeout_seconds = timeout_seconds
        self.function = lambda_.Function(
            self,
            "Function",
            runtime=RUNTIME,
            architecture=ARCHITECTURE,
            handler=handler,
            code=code,
            role=role,
            log_group=log_group,
            timeout=Duration.seconds(timeout_seconds),
            memory_size=memory_mb,
            ephemeral_storage_size=Size.mebibytes(storage_mb) if storage_mb > STORAGE_MB else None,
            reserved_concurrent_executions=reserved_concurrency,
            dead_letter_queue=dead_letter_queue,
            tracing=lambda_.Tracing.ACTIVE if settings.tracing else lambda_.Tracing.DISABLED,
            environment={
                **(environment or {}),
                "POWERTOOLS_LOG_LEVEL": settings.log_level,
                "POWERTOOLS_METRICS_NAMESPACE": METRICS_NAMESPACE,
                "POWERTOOLS_SERVICE_NAME": deployment.pipeline,
                **winnow_variables(
                    {
                        "pipeline": deployment.pipeline,
                        "environment": settings.environment,
                        "trace": str(settings.tracer_sdk).lower(),
                        **(variables or {}),
                    }
                ),
            },
        )
        if settings.tracing:
            accept(
                role,
                "AwsSolutions-IAM5[Resource::*]",
                reason="X-Ray has no resources to name: traces go to the service",
            )


class OwnFunction(PythonFunction):
    """One of Winnow's own functions: `winnow.handlers.<name>.handler`."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        name: str,
        timeout_seconds: int,
        variables: Mapping[str, str],
        memory_mb: int = OWN_MEMORY_MB,
        storage_mb: int = STORAGE_MB,
        reads_parquet: bool = False,
        code: lambda_.Code | None = None,
        dead_letter_queue: sqs.IQueue | None = None,
    ) -> None:
        """`code`: instead of Winnow's own with what all its functions need."""
        own = deployment.code.own_with_parquet if reads_parquet else deployment.code.own
        super().__init__(
            scope,
            construct_id,
            deployment=deployment,
            handler=f"winnow.handlers.{name}.handler",
            code=code or own,
            timeout_seconds=timeout_seconds,
            memory_mb=PARQUET_MEMORY_MB if reads_parquet else memory_mb,
            storage_mb=storage_mb,
            variables=variables,
            dead_letter_queue=dead_letter_queue,
        )


def winnow_variables(values: Mapping[str, str]) -> dict[str, str]:
    """Environment variables as `winnow.settings` reads them.

    Raises:
        ValueError: it reads no such variable, so the function would never see it.
    """
    for name in values:
        if name not in FunctionSettings.__dataclass_fields__:
            raise ValueError(f"variables must be fields of winnow.settings.Settings, got: {name!r}")
    return {f"WINNOW_{name.upper()}": value for name, value in values.items()}
