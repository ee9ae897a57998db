"""Where functions and machines log to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Aws, Fn
from aws_cdk import aws_logs as logs

from stacks.constructs.removal import removal_policy

if TYPE_CHECKING:
    from constructs import Construct

    from stacks.settings import EnvironmentSettings

RETENTION = {
    1: logs.RetentionDays.ONE_DAY,
    3: logs.RetentionDays.THREE_DAYS,
    5: logs.RetentionDays.FIVE_DAYS,
    7: logs.RetentionDays.ONE_WEEK,
    14: logs.RetentionDays.TWO_WEEKS,
    30: logs.RetentionDays.ONE_MONTH,
    60: logs.RetentionDays.TWO_MONTHS,
    90: logs.RetentionDays.THREE_MONTHS,
    120: logs.RetentionDays.FOUR_MONTHS,
    150: logs.RetentionDays.FIVE_MONTHS,
    180: logs.RetentionDays.SIX_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
    400: logs.RetentionDays.THIRTEEN_MONTHS,
    545: logs.RetentionDays.EIGHTEEN_MONTHS,
    731: logs.RetentionDays.TWO_YEARS,
    1827: logs.RetentionDays.FIVE_YEARS,
    3653: logs.RetentionDays.TEN_YEARS,
}
"""CDK's names for `stacks.settings.LOG_RETENTION_DAYS`."""


class LogGroup(logs.LogGroup):
    """A log group that forgets: without a retention CloudWatch keeps, and charges for, everything for ever."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: EnvironmentSettings,
        log_group_name: str | None = None,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            log_group_name=log_group_name,
            retention=RETENTION[settings.log_retention_days],
            removal_policy=removal_policy(settings),
        )


class MachineLogGroup(LogGroup):
    """A log group for state machines, under `/aws/vendedlogs/`.

    Step Functions writes to it by the account's resource policy, which holds 5,120 characters: each group of another name adds
    its own, until no state machine in the account can be created any more. One entry covers all groups of this prefix.

    A group that is retained keeps its name. So that the same stack can be made again beside it, the name has the stack's own id,
    which no other stack ever has; and the construct's address, so that two pipelines of an
    account, or a construct that moves within its stack, do not want the same one.
    """

    def __init__(self, scope: Construct, construct_id: str, *, settings: EnvironmentSettings) -> None:
        # arn:aws:cloudformation:REGION:ACCOUNT:stack/NAME/UUID
        stack_uuid = Fn.select(2, Fn.split("/", Aws.STACK_ID))
        super().__init__(
            scope,
            construct_id,
            settings=settings,
            log_group_name=f"/aws/vendedlogs/states/{Aws.STACK_NAME}-{scope.node.addr[-8:]}-{stack_uuid}",
        )
