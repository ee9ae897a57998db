"""The example: descriptions of manuscripts become works whose identifiers stay, and are published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Environment, Stack
from aws_cdk import aws_dynamodb as dynamodb

from stacks.constructs.pipeline import Pipeline
from stacks.constructs.publication import Publication
from stacks.constructs.removal import removal_policy
from stacks.constructs.source_bucket import SourceBucket
from stacks.constructs.stage import Stage
from stacks.settings import Removal
from winnow.quality.rules import DeleteBudget, Pattern, RowCount, RuleSeverity, Unique

if TYPE_CHECKING:
    from constructs import Construct

    from stacks.settings import EnvironmentSettings


RULES = (
    RowCount(min_ratio=0.9, reason="works go one by one; a tenth of the catalogue at once is a mistake"),
    DeleteBudget(at_most=0.1, reason="a work goes only where its description was deleted, a few at a time"),
    Unique("sourceIdentifier", reason="one manuscript is one work; readers would find a second one, too"),
    Pattern("canonicalId", pattern="[a-z][a-z2-9]{7}", reason="the website makes addresses of it"),
    Pattern(
        "title",
        pattern=r".*\S.*",
        severity=RuleSeverity.WARN,
        reason="readers see the title first, and search by it",
    ),
)
"""What a version of the works has to be. `winnow gate RUN --rules stacks.catalogue_stack:RULES` tries it before it is deployed."""


class CatalogueStack(Stack):
    """TEI files in a bucket → adapt → transform → mint → works, published."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: EnvironmentSettings) -> None:
        super().__init__(
            scope,
            construct_id,
            description="Winnow's example: TEI files to works",
            env=Environment(account=settings.account, region=settings.region),
            tags={**settings.tags},
            termination_protection=settings.removal is Removal.RETAIN,
        )
        source = SourceBucket(self, "Source", settings=settings)
        identifiers = dynamodb.TableV2(
            self,
            "Identifiers",
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            deletion_protection=settings.removal is Removal.RETAIN,
            removal_policy=removal_policy(settings),
        )
        requirements = "catalogue/requirements.txt"
        pipeline = Pipeline(
            self,
            "Catalogue",
            name="catalogue",
            settings=settings,
            source=source,
            stages=[
                Stage.of(
                    "adapt",
                    worker="catalogue.adapt.adapt",
                    requirements=requirements,
                    environment={"SOURCE_BUCKET": source.bucket.bucket_name},
                ),
                Stage.of("transform", worker="catalogue.transform.transform", requirements=requirements),
                Stage.of(
                    "mint",
                    worker="catalogue.mint.mint",
                    requirements=requirements,
                    environment={"IDENTIFIERS_TABLE": identifiers.table_name},
                ),
            ],
            # Nested as works are, they stay readable as JSON. A description that fails keeps the work that was made of it before.
            publish=Publication("works", mode="merge", format="ndjson", quality=RULES),
        )
        # An identifier is never deleted, so that no later record can be given the same.
        identifiers.grant(
            pipeline.stages["mint"].worker, "dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"
        )
