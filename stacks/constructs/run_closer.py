"""What happens when a run has ended, however it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from constructs import Construct

from stacks.constructs.dead_letters import DeadLetters
from stacks.constructs.python_function import OwnFunction
from stacks.constructs.stage_functions import MAX_LAMBDA_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_cdk import aws_sqs as sqs
    from aws_cdk import aws_stepfunctions as sfn

    from stacks.constructs.deployment import Deployment

TERMINAL_STATUSES = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")

SWEEP_EVERY = Duration.hours(1)


class RunCloser(Construct):
    """A function that proves that the ledger of a run adds up, and reports a run that failed.

    It listens from outside, because a machine that is aborted or times out cannot say so itself. EventBridge delivers those events
    as best it can, so every hour it also looks for runs that have ended and were not closed.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        variables: Mapping[str, str],
        machine: sfn.IStateMachine,
    ) -> None:
        super().__init__(scope, construct_id)
        self.dead_letters: sqs.IQueue = DeadLetters(self, "DeadLetters")
        self.close_run = OwnFunction(
            self,
            "CloseRun",
            deployment=deployment,
            name="close_run",
            timeout_seconds=MAX_LAMBDA_SECONDS,
            variables=variables,
            dead_letter_queue=self.dead_letters,
        )
        events.Rule(
            self,
            "RunEnded",
            description=f"A run of {deployment.pipeline} has ended",
            event_pattern=events.EventPattern(
                source=["aws.states"],
                detail_type=["Step Functions Execution Status Change"],
                detail={"stateMachineArn": [machine.state_machine_arn], "status": list(TERMINAL_STATUSES)},
            ),
            targets=[targets.LambdaFunction(self.close_run.function, dead_letter_queue=self.dead_letters)],
        )
        events.Rule(
            self,
            "Sweep",
            description=f"Runs of {deployment.pipeline} whose end no event told of",
            schedule=events.Schedule.rate(SWEEP_EVERY),
            targets=[
                targets.LambdaFunction(
                    self.close_run.function,
                    dead_letter_queue=self.dead_letters,
                    event=events.RuleTargetInput.from_object({"sweep": True}),
                )
            ],
        )
