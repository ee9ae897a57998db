"""What failed, how often, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.constructs.removal import removal_policy
from stacks.settings import Removal
from winnow.register.item import SUMMARY_ATTRIBUTES
from winnow.register.table import OWED_INDEX

if TYPE_CHECKING:
    from stacks.settings import EnvironmentSettings


class Register(Construct):
    """One pipeline's failure register: an entry for each record that failed in a stage, however long ago.

    Its sparse index has only what is not resolved, so that a run pays for what is open, not for what ever failed.
    """

    def __init__(self, scope: Construct, construct_id: str, *, settings: EnvironmentSettings) -> None:
        super().__init__(scope, construct_id)
        self.table: dynamodb.ITableV2 = dynamodb.TableV2(
            self,
            "Table",
            partition_key=_text("pk"),
            sort_key=_text("sk"),
            billing=dynamodb.Billing.on_demand(),
            global_secondary_indexes=[
                dynamodb.GlobalSecondaryIndexPropsV2(
                    index_name=OWED_INDEX,
                    partition_key=_text("owed"),
                    sort_key=_text("sk"),
                    projection_type=dynamodb.ProjectionType.INCLUDE,
                    non_key_attributes=list(SUMMARY_ATTRIBUTES),
                )
            ],
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            deletion_protection=settings.removal is Removal.RETAIN,
            removal_policy=removal_policy(settings),
        )

    def grant_read_write(self, grantee: iam.IGrantable) -> None:
        """May look entries up and change them; nothing may delete one."""
        iam.Grant.add_to_principal(
            grantee=grantee,
            actions=["dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:Query"],
            resource_arns=[self.table.table_arn],
        )
        iam.Grant.add_to_principal(
            grantee=grantee,
            actions=["dynamodb:Query"],
            resource_arns=[f"{self.table.table_arn}/index/{OWED_INDEX}"],
        )


def _text(name: str) -> dynamodb.Attribute:
    return dynamodb.Attribute(name=name, type=dynamodb.AttributeType.STRING)
