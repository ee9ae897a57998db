"""What changes while a pipeline runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.constructs.removal import removal_policy
from stacks.settings import Removal

if TYPE_CHECKING:
    from stacks.settings import EnvironmentSettings


class RunStateTable(Construct):
    """One pipeline's locks and marks: who is running, which events were taken, what was alerted."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: EnvironmentSettings) -> None:
        super().__init__(scope, construct_id)
        self.table: dynamodb.ITableV2 = dynamodb.TableV2(
            self,
            "Table",
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="sk", type=dynamodb.AttributeType.STRING),
            time_to_live_attribute="expires_at",
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            deletion_protection=settings.removal is Removal.RETAIN,
            removal_policy=removal_policy(settings),
        )

    def grant_read_write(self, grantee: iam.IGrantable) -> None:
        """May look at, take and release locks and marks."""
        iam.Grant.add_to_principal(
            grantee=grantee,
            actions=["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:DeleteItem"],
            resource_arns=[self.table.table_arn],
        )
