"""What `winnow doctor --probe` runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from constructs import Construct

from stacks.constructs.bucket_grants import grant_list, grant_objects
from stacks.constructs.ledger_bucket import WRITE
from stacks.constructs.machine import Machine
from stacks.constructs.python_function import OwnFunction
from stacks.constructs.stage import INVOCATION_SLACK_SECONDS
from statemachines.probe import ProbeMachine
from statemachines.stage import StageMachine
from winnow.core.contract import Policy
from winnow.core.keys import StageKeys
from winnow.core.probe import FUNCTION_MEMORY_MB, FUNCTION_SECONDS, RECURSION_SECONDS, STAGE

if TYPE_CHECKING:
    from aws_cdk import aws_logs as logs

    from stacks.constructs.deployment import Deployment
    from stacks.constructs.ledger_bucket import LedgerBucket
    from stacks.constructs.stage_functions import StageFunctions

STAGE_SECONDS = 3600
POLICY = Policy(max_tries=2, backoff_seconds=0, max_backoff_seconds=0)


class Probe(Construct):
    """A function that fails on purpose, a stage of its own around it, and a machine that shows errors by their names.

    Costs nothing as long as nobody runs it. The stage is made of the same template, with the same Plan and Settle, as every stage,
    but the function stands in for Register and Alert: what fails on purpose is neither registered nor alerted. No run of
    the pipeline passes through it.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        ledger: LedgerBucket,
        functions: StageFunctions,
        log_group: logs.ILogGroup,
    ) -> None:
        super().__init__(scope, construct_id)
        settings = deployment.settings
        self.function = OwnFunction(
            self,
            "Function",
            deployment=deployment,
            name="probe",
            timeout_seconds=FUNCTION_SECONDS,
            memory_mb=FUNCTION_MEMORY_MB,
            variables={"ledger_bucket": ledger.bucket.bucket_name, "stage": STAGE, "code_version": STAGE},
        ).function
        # Its own stage's objects and no others: it can neither see a run's data nor vouch for it.
        own = f"{StageKeys(run_id='*', stage=STAGE).prefix}*"
        grant_objects(ledger.bucket, self.function, actions=["s3:GetObject", *WRITE], keys=own)
        grant_list(ledger.bucket, self.function)
        function_timeout_seconds = FUNCTION_SECONDS + INVOCATION_SLACK_SECONDS
        self.stage = Machine(
            self,
            "Stage",
            definition=StageMachine(
                stage=STAGE,
                policy=replace(POLICY, max_row_mb=settings.max_row_mb),
                plan_function_arn=functions.plan.function.function_arn,
                worker_function_arn=self.function.function_arn,
                settle_function_arn=functions.settle.function.function_arn,
                register_function_arn=self.function.function_arn,
                alert_function_arn=self.function.function_arn,
                plan_timeout_seconds=functions.plan.timeout_seconds + INVOCATION_SLACK_SECONDS,
                worker_timeout_seconds=function_timeout_seconds,
                settle_timeout_seconds=functions.settle.timeout_seconds + INVOCATION_SLACK_SECONDS,
                register_timeout_seconds=function_timeout_seconds,
                alert_timeout_seconds=function_timeout_seconds,
                worker_retry_wait_seconds=1,
                recursion_timeout_seconds=RECURSION_SECONDS,
                stage_timeout_seconds=STAGE_SECONDS,
            ).to_json(),
            invokes=[functions.plan.function, self.function, functions.settle.function],
            waits_for_executions=True,
            log_group=log_group,
            settings=settings,
        )
        self.stage.grant_start_itself()
        self.stage.grant_stop_executions(functions.settle.function)
        self.errors = Machine(
            self,
            "Errors",
            definition=ProbeMachine(
                probe_function_arn=self.function.function_arn,
                function_timeout_seconds=function_timeout_seconds,
            ).to_json(),
            invokes=[self.function],
            waits_for_executions=True,
            log_group=log_group,
            settings=settings,
        )
        self.errors.grant_start_itself()
