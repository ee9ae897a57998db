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
    """One pipeline's locks, marks and windows: who is running, what was taken, alerted, and what arrives."""

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
        self._grant(grantee, "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:DeleteItem")

    def grant_gather(self, grantee: iam.IGrantable) -> None:
        """May open windows and add to them."""
        self.grant_read_write(grantee)
        self._grant(grantee, "dynamodb:UpdateItem")

    def grant_close_windows(self, grantee: iam.IGrantable) -> None:
        """May close windows, open others, and see which uploads are claimed."""
        self.grant_gather(grantee)
        self._grant(grantee, "dynamodb:BatchGetItem")

    def _grant(self, grantee: iam.IGrantable, *actions: str) -> None:
        iam.Grant.add_to_principal(
            grantee=grantee, actions=list(actions), resource_arns=[self.table.table_arn]
        )
