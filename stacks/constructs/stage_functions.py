"""The functions that every stage of a pipeline shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from constructs import Construct

from stacks.constructs.python_function import OwnFunction

if TYPE_CHECKING:
    from stacks.constructs.alerts import Alerts
    from stacks.constructs.deployment import Deployment
    from stacks.constructs.ledger_bucket import LedgerBucket
    from stacks.constructs.register import Register
    from stacks.constructs.source_bucket import SourceBucket

MAX_LAMBDA_SECONDS = 900
REGISTER_SECONDS = 300
"""Enough for well over a hundred thousand failures. Alerts wait for it; what it does not manage, closing the run does."""
REGISTER_MEMORY_MB = 1769
"""It needs a tenth of it; this is where Lambda gives one whole processor, and registering is processor time."""
ALERT_SECONDS = 60


class StageFunctions(Construct):
    """Plan, Settle, Register and Alert: what happens before and after a worker, the same for every stage."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        ledger: LedgerBucket,
        register: Register,
        alerts: Alerts,
        source: SourceBucket,
        parquet_input: bool,
    ) -> None:
        super().__init__(scope, construct_id)
        variables = {"ledger_bucket": ledger.bucket.bucket_name}
        self.plan = OwnFunction(
            self,
            "Plan",
            deployment=deployment,
            name="plan",
            timeout_seconds=MAX_LAMBDA_SECONDS,
            variables=variables,
            reads_parquet=parquet_input,
        )
        self.settle = OwnFunction(
            self,
            "Settle",
            deployment=deployment,
            name="settle",
            timeout_seconds=MAX_LAMBDA_SECONDS,
            variables=variables,
        )
        self.register = OwnFunction(
            self,
            "Register",
            deployment=deployment,
            name="register",
            timeout_seconds=REGISTER_SECONDS,
            memory_mb=REGISTER_MEMORY_MB,
            variables={**variables, "register_table": register.table.table_name},
        )
        self.alert = OwnFunction(
            self,
            "Alert",
            deployment=deployment,
            name="alert",
            timeout_seconds=ALERT_SECONDS,
            variables={**variables, "alert_topic_arn": alerts.topic.topic_arn},
        )
        for each in (self.plan, self.settle, self.register, self.alert):
            ledger.grant_read(each.function)
            ledger.grant_write(each.function)
        register.grant_read_write(self.register.function)
        alerts.grant_publish(self.alert.function)
        # A stage may be started with a list that lies next to the records.
        source.grant_read(self.plan.function)
