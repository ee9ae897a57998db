"""A state machine as Winnow runs them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from stacks.constructs.nag import accept, accept_wildcard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_lambda as lambda_
    from aws_cdk import aws_logs as logs

    from stacks.settings import EnvironmentSettings


class Machine(Construct):
    """A Standard state machine with a role of its own, which may invoke the given functions and nothing else.

    CDK grants nothing for a definition that is text, so the construct that writes the definition says what it calls.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        definition: str,
        invokes: Sequence[lambda_.IFunction],
        waits_for_executions: bool,
        log_group: logs.ILogGroup,
        settings: EnvironmentSettings,
    ) -> None:
        """Define the machine and its role.

        Args:
            scope: the construct that it belongs to.
            construct_id: its id in there.
            definition: Amazon States Language, as text: it stays readable in the template.
            invokes: the functions that the definition names.
            waits_for_executions: it starts executions and waits for them (`startExecution.sync:2`).
            log_group: for its history, without the data of executions.
            settings: of the environment.
        """
        super().__init__(scope, construct_id)
        self.role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("states.amazonaws.com"))
        self.role.add_to_principal_policy(
            iam.PolicyStatement(
                actions=["lambda:InvokeFunction"], resources=[function.function_arn for function in invokes]
            )
        )
        if waits_for_executions:
            self._let_wait_for_executions()
        self.state_machine = sfn.StateMachine(
            self,
            "StateMachine",
            definition_body=sfn.DefinitionBody.from_string(definition),
            role=self.role,
            logs=sfn.LogOptions(destination=log_group, level=sfn.LogLevel.ALL, include_execution_data=False),
            tracing_enabled=settings.tracing,
        )
        accept(
            self.role,
            "AwsSolutions-IAM5[Resource::*]",
            reason="log delivery and X-Ray have no resources to name: AWS documents these actions with *",
        )

    @property
    def executions_arn(self) -> str:
        """Pattern of its executions' ARNs."""
        return Stack.of(self).format_arn(
            service="states",
            resource="execution",
            resource_name=f"{self.state_machine.state_machine_name}:*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )

    def grant_start_and_wait(self, machine: Machine) -> None:
        """Another machine may start this one, wait for it, and stop it when stopped itself."""
        for statement in self._start_and_wait():
            machine.role.add_to_principal_policy(statement)
        self._accept_executions(machine.role)

    def grant_start_itself(self) -> None:
        """It may start itself and wait.

        In a policy of its own: in the role's default policy, which the machine depends on, it would be a cycle.
        """
        iam.Policy(self, "StartItself", roles=[self.role], statements=self._start_and_wait())
        self._accept_executions(self)

    def grant_start(self, grantee: iam.IGrantable) -> None:
        """May start executions."""
        iam.Grant.add_to_principal(
            grantee=grantee,
            actions=["states:StartExecution"],
            resource_arns=[self.state_machine.state_machine_arn],
        )

    def grant_describe_executions(self, function: lambda_.Function) -> None:
        """A function may ask what became of executions. In a policy of its own, as it may be one that this invokes."""
        assert function.role is not None
        policy = iam.Policy(
            function,
            "DescribeExecutions",
            roles=[function.role],
            statements=[
                iam.PolicyStatement(actions=["states:DescribeExecution"], resources=[self.executions_arn])
            ],
        )
        self._accept_executions(policy)

    def grant_find_executions(self, function: lambda_.Function) -> None:
        """A function may list this machine's executions, and ask what became of each."""
        function.add_to_role_policy(
            iam.PolicyStatement(
                actions=["states:ListExecutions"], resources=[self.state_machine.state_machine_arn]
            )
        )
        self.grant_describe_executions(function)

    def grant_stop_executions(self, function: lambda_.Function) -> None:
        """A function may stop executions. In a policy of its own, as it may be one that this invokes."""
        assert function.role is not None
        policy = iam.Policy(
            self,
            "StopExecutions",
            roles=[function.role],
            statements=[
                iam.PolicyStatement(actions=["states:StopExecution"], resources=[self.executions_arn])
            ],
        )
        self._accept_executions(policy)

    def _start_and_wait(self) -> list[iam.PolicyStatement]:
        return [
            iam.PolicyStatement(
                actions=["states:StartExecution"], resources=[self.state_machine.state_machine_arn]
            ),
            iam.PolicyStatement(
                actions=["states:DescribeExecution", "states:StopExecution"], resources=[self.executions_arn]
            ),
        ]

    def _let_wait_for_executions(self) -> None:
        """Step Functions hears of an execution's end through a rule that it manages in our account.

        In the default policy, because it checks for these when the machine is created.
        """
        rule = Stack.of(self).format_arn(
            service="events",
            resource="rule",
            resource_name="StepFunctionsGetEventsForStepFunctionsExecutionRule",
        )
        self.role.add_to_principal_policy(
            iam.PolicyStatement(
                actions=["events:PutTargets", "events:PutRule", "events:DescribeRule"], resources=[rule]
            )
        )

    def _accept_executions(self, construct: Construct) -> None:
        reason = "executions are named when they start; the pattern is that of one machine"
        accept_wildcard(construct, self.executions_arn, reason=reason)
