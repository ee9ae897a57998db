"""What publishes: a bucket for consumers, and the functions between the last stage and them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from constructs import Construct

from stacks.constructs.published_bucket import PublishedBucket
from stacks.constructs.python_function import PARQUET_MEMORY_MB, OwnFunction
from stacks.constructs.stage import INVOCATION_SLACK_SECONDS
from stacks.constructs.stage_functions import MAX_LAMBDA_SECONDS
from statemachines.pipeline import FunctionStep, PublishingSteps
from winnow.quality.rules import rules_to_json

if TYPE_CHECKING:
    from aws_cdk import aws_lambda as lambda_

    from stacks.constructs.deployment import Deployment
    from stacks.constructs.ledger_bucket import LedgerBucket
    from stacks.constructs.publication import Publication

BUILDING_STORAGE_MB = 10_240
"""A run's outputs are sorted on disk."""
CHECKING_STORAGE_MB = 4_096
"""Where DuckDB puts what does not fit into its share of the memory."""
PUBLISH_SECONDS = 300


class Publishing(Construct):
    """BuildVersion, CheckQuality (where there are rules) and Publish, and what they write to."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        publication: Publication,
        deployment: Deployment,
        ledger: LedgerBucket,
        stages: str,
    ) -> None:
        """Define the bucket and the functions.

        Args:
            scope: the construct that it belongs to.
            construct_id: its id in there.
            publication: what is published.
            deployment: the pipeline and environment that publish it.
            ledger: where the runs' outputs are.
            stages: the names of the pipeline's stages, as `winnow.settings` reads them.
        """
        super().__init__(scope, construct_id)
        self.publication = publication
        self.published = PublishedBucket(
            self, "Published", settings=deployment.settings, publication=publication.name
        )
        self.variables = {
            "published_bucket": self.published.bucket.bucket_name,
            "publication": publication.name,
        }
        """What functions are told that read what is published."""
        variables = {
            **self.variables,
            "publication_mode": publication.mode,
            "publication_format": publication.format,
            "ledger_bucket": ledger.bucket.bucket_name,
            "stages": stages,
        }
        self.build_version = OwnFunction(
            self,
            "BuildVersion",
            deployment=deployment,
            name="build_version",
            timeout_seconds=MAX_LAMBDA_SECONDS,
            memory_mb=PARQUET_MEMORY_MB,
            storage_mb=BUILDING_STORAGE_MB,
            reads_parquet=True,  # whatever it writes: what workers made, and the version before, may be Parquet
            variables=variables,
        )
        self.published.grant_build(self.build_version.function)
        self.check_quality = self._check_quality(deployment, variables) if publication.quality else None
        self.publish = OwnFunction(
            self,
            "Publish",
            deployment=deployment,
            name="publish",
            timeout_seconds=PUBLISH_SECONDS,
            variables=variables,
        )
        self.published.grant_move(self.publish.function)
        for each in self.functions:
            ledger.grant_read(each)

    def _check_quality(self, deployment: Deployment, variables: dict[str, str]) -> OwnFunction:
        check_quality = OwnFunction(
            self,
            "CheckQuality",
            deployment=deployment,
            name="check_quality",
            timeout_seconds=MAX_LAMBDA_SECONDS,
            memory_mb=PARQUET_MEMORY_MB,
            storage_mb=CHECKING_STORAGE_MB,
            code=deployment.code.own_with_duckdb,
            variables=variables,
        )
        self.published.grant_judge(check_quality.function)
        return check_quality

    @property
    def functions(self) -> list[lambda_.Function]:
        """All that the pipeline machine invokes to publish."""
        owners = (self.build_version, self.check_quality, self.publish)
        return [each.function for each in owners if each]

    @property
    def steps(self) -> PublishingSteps:
        """The functions as the pipeline machine sees them."""
        return PublishingSteps(
            build_version=_step(self.build_version),
            check_quality=_step(self.check_quality) if self.check_quality else None,
            publish=_step(self.publish),
            rules=rules_to_json(self.publication.quality),
        )


def _step(owner: OwnFunction) -> FunctionStep:
    return FunctionStep(
        arn=owner.function.function_arn,
        timeout_seconds=owner.timeout_seconds + INVOCATION_SLACK_SECONDS,
    )
